"""Trained weights as safetensors: a file without code, which any program can read and only the same network takes."""

import json
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hierlit.files.atomic import replace_file
from hierlit.files.digests import tensor_digest
from hierlit.models.resnet import OPTIONAL_SIZES, HierarchicalResNet

VERSION = "1"
NO_WEIGHTS = "truncated, or not a safetensors file"
CALIBRATION = "calibration."
"""How the tensors' names begin that a file may be without: weights that hierlit 0.1.0 exported have no calibration."""
NAMED = 3
"""Problems that a message names before it counts the rest."""


def save_weights(net: HierarchicalResNet, path: str | Path) -> None:
    """Write a network's weights to a file, which stays as it is until the new one is complete.

    Args:
        net: The network.
        path: A file ending in `.safetensors`.

    Raises:
        ImportError: If safetensors is not installed.
        OSError: If the file cannot be written; one line with its size and the reason.
        ValueError: If the path has another suffix.
    """
    write_weights(net.state_dict(), net.sizes, path, net.rounding)


def write_weights(
    tensors: Mapping[str, Tensor], sizes: Mapping[str, int | str], path: str | Path, rounding: str | None = None
) -> None:
    """Write tensors of a network of these sizes and this rounding of features; see `save_weights`."""
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"weights must be a file ending in .safetensors, got {path}")
    dense = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    digests = {name: tensor_digest(tensor) for name, tensor in dense.items()}
    about = {"version": VERSION, "sizes": dict(sizes), "rounding": rounding, "digests": digests}
    written = import_safetensors().torch.save(dense, {"hierlit": json.dumps(about)})
    replace_file(Path(path), lambda sink: sink.write(written))


def load_weights(net: HierarchicalResNet, path: str | Path) -> None:
    """Give a network the weights in a file, to the last bit; all of them, or none if any does not fit.

    The draws of blocks not yet trained are among them: the network continues as the one that was saved would have.

    Args:
        net: A network of the same sizes, proximity and precision.
        path: A file of `save_weights`.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If safetensors is not installed.
        ValueError: One line with the file and what does not fit, here and there.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"weights must be a safetensors file, got {path}: no such file")
    tensors, about = read_weights(Path(path))
    problems = about_problems(about, net) or tensor_problems(tensors, about, net)
    if problems:
        more = f", and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise ValueError(f"weights must fit this network, got {path}: {', '.join(problems[:NAMED])}{more}")
    net.rounding = about.get("rounding")
    net.load_state_dict(tensors)


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors in a file of `save_weights`, and what it says about itself.

    Raises:
        ValueError: If it is no such file.
    """
    safetensors = import_safetensors()
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
    except (safetensors.SafetensorError, ValueError, OverflowError) as error:
        raise ValueError(f"weights must be a safetensors file, got {path}: {NO_WEIGHTS}") from error
    with suppress(ValueError, RecursionError):
        about = json.loads(metadata.get("hierlit", ""))
        if isinstance(about, dict) and isinstance(about.get("sizes"), dict) and isinstance(about.get("digests"), dict):
            return tensors, about
    raise ValueError(f"weights must be a file of hierlit's export, got {path}: it has no sizes of a network")


def about_problems(about: Mapping[str, Any], net: HierarchicalResNet) -> list[str]:
    """In what a file, by its own account, is not of this network; each with both values."""
    if about.get("version") != VERSION:
        return [f"its format is version {about.get('version')!r}, not {VERSION!r}"]
    sizes = {"features": about["sizes"].get("activation"), **about["sizes"]}  # its name in files of version 0.1.0
    names = dict.fromkeys([*net.sizes, *OPTIONAL_SIZES])
    pairs = {name: (sizes.get(name), net.sizes.get(name)) for name in names}
    return [f"{name}={there}, not {here}" for name, (there, here) in pairs.items() if there != here]


def tensor_problems(tensors: Mapping[str, Tensor], about: Mapping[str, Any], net: HierarchicalResNet) -> list[str]:
    """Return which tensors of a file do not fit a network, each with both values."""
    own, taken = net.state_dict(), shaped_as(net, tensors)
    absent = (name for name in taken if name not in tensors)
    problems = [f"tensor {name} is missing" for name in absent if not name.startswith(CALIBRATION)]
    problems += [f"tensor {name} is none of this network" for name in tensors if name not in taken]
    for name in tensors.keys() & taken.keys():
        if problem := tensor_problem(tensors[name], taken[name], about["digests"].get(name)):
            problems.append(f"tensor {name} {problem}")
    if not problems:
        if not torch.equal(tensors["windows.table"], own["windows.table"].cpu()):
            problems.append("tensor windows.table is of another proximity")
        if not 0 <= (n_trained := int(tensors["n_trained"])) <= len(net.blocks):
            problems.append(f"tensor n_trained is {n_trained}, not in 0..{len(net.blocks)}")
    return sorted(problems)


def shaped_as(net: HierarchicalResNet, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return a network's tensors in the shapes that it would take of others: a block may size itself."""
    other = deepcopy(net)
    with suppress(RuntimeError):  # of shapes that it would not take
        other.load_state_dict(tensors, strict=False)
    blocks = [other.block(index) for index in range(len(other.blocks))]
    is_whole = all(block.weight.shape[1] == block.features.n_features + 1 for block in blocks)
    return (other if is_whole else net).state_dict()


def tensor_problem(there: Tensor, here: Tensor, digest: str | None) -> str:
    """Return why a tensor of a file cannot take the place of one of a network, or nothing."""
    if (there.dtype, there.shape) != (here.dtype, here.shape):
        kinds = (f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}" for tensor in (there, here))
        return "is {}, not {}".format(*kinds)
    if tensor_digest(there) != digest:
        return "is damaged: it does not fit its digest"
    n_wrong = int((~there.isfinite()).sum())
    return f"holds {n_wrong} values that are not finite" if n_wrong else ""


def import_safetensors() -> Any:
    """Return the module safetensors, with its submodule torch.

    Raises:
        ImportError: With a hint, if it is not installed.
    """
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError("reading and writing .safetensors needs safetensors: pip install hierlit[weights]") from error
    return safetensors
