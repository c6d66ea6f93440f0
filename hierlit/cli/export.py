"""`export`: the weights of a checkpoint as a safetensors file, or its model as an ONNX or torch.export file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from torch import Tensor

from hierlit.cli.words import program
from hierlit.data.fitted import fitted_text
from hierlit.data.tables.encoder import TableEncoder
from hierlit.data.tables.fitted import FittedTable
from hierlit.files.checkpoints import find_checkpoint, read_checkpoint
from hierlit.files.export import export_model
from hierlit.files.weights import write_weights
from hierlit.layerwise.algorithm import n_used
from hierlit.models import GaussianFeatures, HierarchicalResNet, IndexTable, RadialFeatures
from hierlit.models.random_features import ACTIVATIONS

DESCRIPTION = (
    "Writes the network's weights in a checkpoint to a safetensors file, for --model.weights and others; or the "
    "network, with what makes its inputs of a table's columns, to an .onnx or .pt2 file that runs without hierlit."
)
NET = "net."
KINDS = {kind.kind: kind for kind in (RadialFeatures(), *(GaussianFeatures(activation=name) for name in ACTIVATIONS))}
"""Features by kind whose first layers the tensors of a checkpoint make whole."""


def export(args: Sequence[str]) -> None:
    """Run the subcommand.

    Args:
        args: Its command-line arguments.

    Raises:
        SystemExit: With code 2, after one line that says what is wrong.
    """
    parser = ArgumentParser(prog=f"{program()} export", description=DESCRIPTION)
    parser.add_argument("--ckpt_path", default="last", help="a checkpoint file, or `last`")
    parser.add_argument("--weights", type=str, help="the file to write, ending in .safetensors")
    parser.add_argument("--model", type=str, help="the file to write, ending in .onnx or .pt2")
    parser.add_argument("--root", default=".", help="the folder whose lightning_logs `last` is looked for in")
    given = parser.parse_args(list(args))
    if (given.weights is None) == (given.model is None):
        parser.error("one of weights and model is required, a file to write")
    try:
        checkpoint = find_checkpoint(given.ckpt_path, Path(given.root))
        contents: dict[str, Any] = read_checkpoint(checkpoint, mmap=True)
        weights = weights_of(contents)
        if "n_trained" not in weights:
            raise ValueError(
                f"ckpt_path must be a checkpoint of a LayerwiseTask, got {checkpoint}: it holds no network"
            )
        if given.weights is not None:
            write_weights(weights, contents["sizes"], given.weights, contents.get("rounding"))
        else:
            export_model(network_of(contents), given.model, table_encoder(contents))
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    n_blocks = n_used(int(weights["n_trained"]), contents["memory"])
    print(f"wrote {n_blocks} trained blocks of {checkpoint} to {given.weights or given.model}")


def table_encoder(contents: dict[str, Any]) -> TableEncoder | None:
    """Return how inputs are made of a table's columns; None if the network's data was no table, or has no inputs."""
    try:
        table = FittedTable.of_json(fitted_text(contents) or "null")
    except ValueError:
        return None
    return TableEncoder(table) if table.columns else None


def network_of(contents: dict[str, Any]) -> HierarchicalResNet:
    """Return the network in a checkpoint.

    Raises:
        ValueError: If its features are of a kind that hierlit does not know.
    """
    weights, sizes = weights_of(contents), dict(contents["sizes"])
    kind, *_ = [sizes.pop(name, None) for name in ("features", "window", "first_layers", "neighbours")]
    if kind not in KINDS:
        raise ValueError(f"model needs hierlit's own features, got {kind}: write it in Python, by export_model")
    seen = IndexTable(weights["windows.table"].tolist())
    beside = weights.get("neighbours.windows.table")
    neighbours = None if beside is None else IndexTable(beside.tolist())
    net = HierarchicalResNet(**sizes, features=KINDS[kind], proximity=seen, neighbours=neighbours)
    net.to(weights["blocks.0.weight"].dtype).load_state_dict(weights)
    net.rounding = contents.get("rounding")
    return net


def weights_of(contents: dict[str, Any]) -> dict[str, Tensor]:
    """Return the network's tensors in a checkpoint."""
    state: dict[str, Tensor] = contents.get("state_dict", {})
    return {name.removeprefix(NET): tensor for name, tensor in state.items() if name.startswith(NET)}
