"""What all processes of a run must have in common, to the bit."""

from collections.abc import Mapping
from hashlib import blake2b

import lightning as L
import torch


def compare(trainer: L.Trainer, what: str, values: Mapping[str, object], remedy: str = "") -> None:
    """Compares values between processes, by digests of what `repr` makes of them; all processes must call it.

    Args:
        trainer: The run's trainer.
        what: What the values are of.
        values: By name; the names are the same on all processes.
        remedy: What to do if they differ.

    Raises:
        RuntimeError: If they do; one line says on which ranks, and which.
    """
    if trainer.world_size == 1:
        return
    digests = [blake2b(repr(value).encode(), digest_size=7).hexdigest() for value in values.values()]
    own = torch.tensor([int(digest, 16) for digest in digests], device=trainer.strategy.root_device)
    gathered = trainer.strategy.all_gather(own).view(-1, len(values))
    differs = gathered != gathered[0]
    if differs.any():
        ranks = [0, *differs.any(1).nonzero().flatten().tolist()]
        names = [name for name, is_other in zip(values, differs.any(0), strict=True) if is_other]
        raise RuntimeError(f"{what} is not the same on ranks {ranks}: {', '.join(names)} differ{remedy}")
