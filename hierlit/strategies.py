"""Which of Lightning's strategies make sense here: one process, or one for each share of every batch."""

from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy

VALID = "auto, ddp and its variants (ddp_spawn, ddp_fork, ddp_notebook), single_device"


def strategy_problem(strategy: str | Strategy | object) -> str:
    """Why a strategy, by its name or as an object, cannot train a block; or nothing.

    What is trained at a time, one block's n×(q+1) weights, leaves nothing to shard.
    """
    if isinstance(strategy, str):
        is_valid = strategy in ("auto", "single_device") or strategy.startswith("ddp")
        name = repr(strategy)
    else:
        is_valid = not isinstance(strategy, Strategy) or isinstance(strategy, DDPStrategy | SingleDeviceStrategy)
        name = type(strategy).__name__
    if is_valid:
        return ""
    return f"trainer.strategy must be one of {VALID}, got {name}: one block's weights leave nothing to shard"
