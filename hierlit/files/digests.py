"""Digests of everything in a checkpoint, kept in it: damage, to a single bit, is found and named.

They find what happened by accident; they are no signature, since whoever alters a checkpoint can seal it again.
"""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

import torch
from torch import Tensor

KEY = "digests"
PLAIN = (str, bytes, int, float, bool, type(None))
NAMED = 3
"""Tensors that a message names before it counts the rest."""


class Digests(NamedTuple):
    """Digests of a nested structure's tensors, by their paths, and one of its plain values, keys and lengths."""

    tensors: dict[str, str]
    values: str


def seal(checkpoint: dict[str, Any]) -> None:
    """Add to a checkpoint the digests of all it holds, in place.

    Covered are tensors and plain values in dicts, lists and tuples at any depth, and those containers' keys; objects of
    other classes are not.

    Args:
        checkpoint: Nested dicts, lists and tuples, with keys that are strings or other plain values.
    """
    checkpoint[KEY] = digests(checkpoint)._asdict()


def damage(checkpoint: dict[str, Any], part: str | None = None) -> str:
    """Return what of a checkpoint does not fit its digests, in one line; nothing if all does.

    Args:
        checkpoint: Nested dicts, lists and tuples.
        part: A key of it whose tensors alone are looked at; everything when None.
    """
    sealed = checkpoint.get(KEY)
    tensors = sealed.get("tensors") if isinstance(sealed, dict) else None
    if not isinstance(sealed, dict) or not isinstance(tensors, dict):
        return "carries no digests"
    if part is not None:
        tensors = {path: digest for path, digest in tensors.items() if path.startswith(f"{part}/")}
    here = digests(checkpoint if part is None else {part: checkpoint[part]})
    problems = [f"tensor {path} is missing" for path in tensors if path not in here.tensors]
    for path, digest in here.tensors.items():
        if tensors.get(path) != digest:
            problems.append(f"tensor {path} is {'altered' if path in tensors else 'extra'}")
    if part is None and sealed.get("values") != here.values:
        problems.append("values other than tensors are altered")
    more = f", and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
    return ", ".join(problems[:NAMED]) + more


def digests(checkpoint: dict[str, Any]) -> Digests:
    """Return the digests of a checkpoint as it is now, whatever digests it carries."""
    tensors: dict[str, str] = {}
    values = blake2b(digest_size=16)
    for path, value in leaves({key: value for key, value in checkpoint.items() if key != KEY}):
        if isinstance(value, Tensor):
            tensors[path] = tensor_digest(value, tensors.get(path, ""))
        else:
            values.update(repr((path, value)).encode())
    return Digests(tensors, values.hexdigest())


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the strided tensors and plain values of a nested structure with their paths, and each container's keys."""
    if isinstance(value, Tensor):
        if value.layout is torch.strided:
            yield path, value
    elif isinstance(value, (dict, list, tuple)):
        items = list(value.items() if isinstance(value, dict) else enumerate(value))
        yield path, [key if type(key) in PLAIN else type(key).__name__ for key, _ in items]
        for key, item in items:
            yield from leaves(item, f"{path}/{key}" if path else str(key))
    elif type(value) in PLAIN:
        yield path, value


def tensor_digest(tensor: Tensor, before: str = "") -> str:
    """Return the digest of a tensor's dtype, shape and values, in hexadecimal.

    Args:
        tensor: Any strided tensor.
        before: The digest of another tensor with the same path, which this one takes in.
    """
    digest = blake2b(f"{before} {tensor.dtype} {tuple(tensor.shape)} ".encode(), digest_size=16)
    flat = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().flatten()
    digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
