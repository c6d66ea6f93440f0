"""The processes that train together, each with its own rows: sums over them, and what they must have in common."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """Processes of one `torch.distributed` group; by default this process alone.

    Attributes:
        number: How many there are.
        rank: Which of them this one is, from 0.
    """

    number: int = 1
    rank: int = 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place."""
        if self.number > 1:
            dist.all_reduce(tensor)
        return tensor

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors [...] of all processes, exactly, as [number, ...]."""
        parts = tensor.new_zeros(self.number, *tensor.shape)
        parts[self.rank] = tensor
        return self.sum(parts)

    def compare(self, what: str, values: Mapping[str, object], device: torch.device, remedy: str = "") -> None:
        """Compare values between processes by digests of their `repr`; all processes must call it.

        Args:
            what: What the values are of.
            values: By name; the names are the same on all processes.
            device: Where the digests are exchanged.
            remedy: What to do if they differ.

        Raises:
            RuntimeError: If they do; one line says on which ranks, and which.
        """
        if self.number == 1:
            return
        digests = [blake2b(repr(value).encode(), digest_size=7).hexdigest() for value in values.values()]
        gathered = self.all_gather(torch.tensor([int(digest, 16) for digest in digests], device=device))
        differs = gathered != gathered[0]
        if differs.any():
            ranks = [0, *differs.any(1).nonzero().flatten().tolist()]
            names = [name for name, is_other in zip(values, differs.any(0), strict=True) if is_other]
            raise RuntimeError(f"{what} is not the same on ranks {ranks}: {', '.join(names)} differ{remedy}")


ALONE = Processes()
