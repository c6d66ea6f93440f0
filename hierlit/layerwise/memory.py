"""Memory: how much is free, what to say where it runs out, and tensors that are kept in files instead."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch
from torch import Tensor

FREE_SHARE = 0.25
"""Share of a device's free memory that a cache takes without a stated budget."""


def free_memory(device: torch.device) -> int:
    """Bytes of memory that are free on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


@contextmanager
def memory_for(what: str, size: int) -> Iterator[None]:
    """Explain that memory ran out.

    Raises:
        MemoryError: One line, in place of torch's error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(
            f"no memory for the {what} of a batch ({size:,} bytes): lower model.cache_budget_gib or data.batch_size"
        ) from error


def mapped(tensor: Tensor) -> Tensor:
    """Copy of a tensor in a temporary file, on the CPU; the file has no name at any time and ends with its tensor.

    Raises:
        OSError: The temporary folder cannot take it.
    """
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            # a file with holes would end the process, without a word, when the disk is full
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, max(1, tensor.nbytes))
            else:
                file.truncate(tensor.nbytes)
            kept = torch.from_file(f"/dev/fd/{file.fileno()}", shared=True, size=tensor.numel(), dtype=tensor.dtype)
    except OSError as error:
        raise OSError(
            error.errno,
            f"the stream cache cannot keep {tensor.nbytes} bytes in {folder} ({error.strerror}): "
            "set TMPDIR to another folder, or raise cache_budget_gib",
        ) from error
    return kept.view(tensor.shape).copy_(tensor)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, on any device; on a CPU torch says so in the text of a RuntimeError alone."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or (isinstance(error, RuntimeError) and "allocate memory" in str(error))
