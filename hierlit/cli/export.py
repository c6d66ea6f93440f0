"""`export`: the weights of a checkpoint as a safetensors file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from hierlit.checkpoints import find_checkpoint, read_checkpoint
from hierlit.weights import write_weights

DESCRIPTION = "Writes the network's weights in a checkpoint to a safetensors file, for --model.weights and others."
NET = "net."


def export(args: Sequence[str]) -> None:
    """Runs the subcommand.

    Args:
        args: Its command-line arguments.

    Raises:
        SystemExit: With code 2, after one line that says what is wrong.
    """
    parser = ArgumentParser(prog="hierlit export", description=DESCRIPTION)
    parser.add_argument("--ckpt_path", default="last", help="a checkpoint file, or `last`")
    parser.add_argument("--weights", type=str, required=True, help="the file to write, ending in .safetensors")
    parser.add_argument("--root", default=".", help="the folder whose lightning_logs `last` is looked for in")
    given = parser.parse_args(list(args))
    try:
        checkpoint = find_checkpoint(given.ckpt_path, Path(given.root))
        print(export_weights(checkpoint, given.weights))
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))


def export_weights(checkpoint: Path, path: str) -> str:
    """Writes the weights in a checkpoint to a file, and says so in one line.

    Raises:
        OSError: If the checkpoint cannot be read, or the file cannot be written.
        ValueError: If the checkpoint is damaged or not of a `LayerwiseTask`.
    """
    contents: dict[str, Any] = read_checkpoint(checkpoint, mmap=True)
    state = contents.get("state_dict", {})
    tensors = {name.removeprefix(NET): tensor for name, tensor in state.items() if name.startswith(NET)}
    if "n_trained" not in tensors:
        raise ValueError(f"ckpt_path must be a checkpoint of a LayerwiseTask, got {checkpoint}: it holds no network")
    write_weights(tensors, contents["sizes"], path, contents.get("rounding"))
    return f"wrote {int(tensors['n_trained'])} trained blocks of {checkpoint} to {path}"
