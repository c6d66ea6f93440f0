"""A trained network, from a table's columns to probabilities, as one graph that other programs run."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hierlit.files.atomic import replace_file
from hierlit.models.block import readout
from hierlit.models.resnet import HierarchicalResNet

SUFFIXES = (".onnx", ".pt2")
OUTPUTS = ["scores", "probabilities"]
ABOUT = "hierlit.json"
"""Name of what a file says about its inputs and outputs: an entry of ONNX's metadata, a file in a .pt2 archive."""


class Encoder(Protocol):
    """A module that makes inputs of something else; see `TableEncoder`.

    Attributes:
        names: Of its arguments.
    """

    names: list[str]

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return inputs, float32 [B, d]."""

    def examples(self) -> tuple[Tensor, ...]:
        """Arguments for two rows."""

    def describe(self) -> dict[str, Any]:
        """Return what its arguments and the labels are, as plain values."""


class Predictions(nn.Module):
    """The trained blocks of a network in a row, without the tiles that they are otherwise computed in."""

    def __init__(self, net: HierarchicalResNet, encoder: Encoder | None = None) -> None:
        super().__init__()
        self.net, self.encoder, self.n_trained = net, encoder, int(net.n_trained)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ŷ and probabilities of inputs [B, |G|, d], as [B, |G|, n]; or of what the encoder takes, as [B, n].

        Of labels of examples as [B, 1, n].
        """
        net, given = self.net, inputs[0] if self.encoder is None else self.encoder(*inputs)[:, None]
        stream = net.embed(given)
        for index in range(self.n_trained):
            block = net.block(index)
            change = block.weight[:, -1].expand(*stream.shape[:-1], len(block.weight))
            if block.weight.shape[1] > 1:  # ONNX Runtime refuses to shape no features at all
                change = readout(net.features_of(stream, index), block.weight)
            stream = net.add_scores(stream, change, block.labels)
        scores = net.answers(stream)
        if self.encoder is not None:
            scores = scores[:, 0]
        elif net.pooled:
            scores = scores[:, :1]
        return scores, net.calibration(scores)


def export_model(net: HierarchicalResNet, path: str | Path, encoder: Encoder | None = None) -> None:
    """Write a network, and what makes its inputs, for any number of rows, and lines of any length, at a time.

    The graph has the input `inputs`, float [B, |G|, d], and the outputs `scores` and `probabilities` [B, |G|, n], of
    labels of examples [B, 1, n]. With the encoder of a table it has the inputs `numbers`, float64 [B, columns], and if
    there are any `codes`, int64 [B, columns of categories], and outputs [B, n]. The file says, as JSON called
    `hierlit.json`, which columns, categories, labels and outputs they are.

    Args:
        net: The network, on the CPU and in full precision.
        path: A file ending in `.onnx` or `.pt2`; it stays as it is until the new one is complete.
        encoder: Makes its inputs, a `TableEncoder`; None to take them as they are.

    Raises:
        ImportError: If ONNX is asked for and onnx or onnxscript is missing.
        OSError: If the file cannot be written.
        ValueError: If the path has another suffix, or features are rounded to less than float32.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"model must be a file ending in {' or '.join(SUFFIXES)}, got {path}")
    if net.rounding is not None:
        raise ValueError(f"the exported network must be one of full precision, got features rounded to {net.rounding}")
    inputs: tuple[Tensor, ...]
    if encoder is None:
        names, inputs = ["inputs"], (net.block(0).weight.new_zeros(2, net.n_locations, net.n_inputs),)
        about: dict[str, Any] = {"inputs": [net.n_locations, net.n_inputs]}
        about |= {name: [1 if net.pooled else net.n_locations, net.n_labels] for name in OUTPUTS}
    else:
        names, inputs, about = encoder.names, encoder.examples(), encoder.describe() | {"outputs": OUTPUTS}
    write = write_onnx if path.suffix == ".onnx" else write_pt2
    with torch.no_grad(), quiet():
        write(Predictions(net, encoder).eval(), inputs, names, path, json.dumps(about, ensure_ascii=False))


def any_size(graph: Predictions, names: list[str]) -> tuple[tuple[dict[int, Any], ...]]:
    """Return the dynamic shapes of `Predictions.forward`: every input's batch, and the length of a line."""
    net, sizes = graph.net, {0: torch.export.Dim("batch")}
    if net.windows.step or (net.windows.is_identity and net.n_locations > 1 and net.masked):
        sizes[1] = torch.export.Dim("length")
    return (tuple(sizes if graph.encoder is None else {0: sizes[0]} for _ in names),)


def write_pt2(graph: Predictions, inputs: tuple[Tensor, ...], names: list[str], path: Path, about: str) -> None:
    """Write a torch.export archive; `torch.export.load` reads it."""
    program = torch.export.export(graph, inputs, dynamic_shapes=any_size(graph, names))
    archive = BytesIO()  # its writer goes back to where it has been
    torch.export.save(program, archive, extra_files={ABOUT: about})
    replace_file(path, lambda sink: sink.write(archive.getbuffer()))


def write_onnx(graph: Predictions, inputs: tuple[Tensor, ...], names: list[str], path: Path, about: str) -> None:
    """Write an ONNX file."""
    try:
        import onnx
        import onnxscript  # noqa: F401  torch.onnx needs it
    except ImportError as error:
        raise ImportError("writing .onnx needs onnx and onnxscript: pip install hierlit[export]") from error
    program = torch.onnx.export(
        graph,
        inputs,
        dynamo=True,
        input_names=names,
        output_names=OUTPUTS,
        dynamic_shapes=any_size(graph, names),
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {ABOUT: about})
    replace_file(path, lambda sink: sink.write(proto.SerializeToString()))


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what exporters say of themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)
