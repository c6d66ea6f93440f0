"""A trained network, with what its inputs are made of, as one graph that other programs run: torch.export and ONNX."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hierlit.data.tables.features import FittedFeatures
from hierlit.data.tables.fitted import FittedTable
from hierlit.files.atomic import replace_file
from hierlit.models.resnet import HierarchicalResNet, readout

SUFFIXES = (".onnx", ".pt2")
ABOUT = "hierlit.json"
"""Name of what a file says about its inputs and outputs: an entry of ONNX's metadata, a file in a .pt2 archive."""


class Encoder(nn.Module):
    """`FittedFeatures.encode` as a module: columns filled, scaled and one-hot, as in training."""

    fill: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, features: FittedFeatures) -> None:
        super().__init__()
        for name in ("fill", "shift", "scale"):
            values = [getattr(fit, name) for fit in features.numbers]
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64))
        self.unit = features.unit
        self.sizes = [len(fit.categories) for fit in features.categories]
        self.fills = [-1 if fit.fill is None else fit.categories.index(fit.fill) for fit in features.categories]

    def forward(self, numbers: Tensor, codes: Tensor | None = None) -> Tensor:
        """Inputs, float32 [B, d].

        Args:
            numbers: Float64 [B, columns of numbers]; NaN where missing.
            codes: Long [B, columns of categories], places among the categories; −1 where missing, and a number beyond
                them for a category that was not in the rows to train on.
        """
        filled = torch.where(torch.isnan(numbers), self.fill, numbers)
        parts = [((filled - self.shift) / self.scale).float()]
        if codes is not None:
            for place, (size, fill) in enumerate(zip(self.sizes, self.fills, strict=True)):
                code = codes[:, place, None]
                code = torch.where(code < 0, torch.full_like(code, fill), code)
                parts.append((code == torch.arange(size, device=code.device)).float())
        inputs = torch.cat(parts, 1)
        if self.unit:
            norms = inputs.double().square().mean(1, keepdim=True).sqrt()
            inputs = (inputs / torch.where(norms > 0, norms, 1.0)).float()
        return inputs


class Scores(nn.Module):
    """The trained blocks of a network in a row, without the tiles that they are otherwise computed in."""

    def __init__(self, net: HierarchicalResNet, encoder: Encoder | None = None) -> None:
        super().__init__()
        self.net, self.encoder, self.n_trained = net, encoder, int(net.n_trained)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Scores ŷ of inputs [B, |G|, d], as [B, |G|, n]; or of a table's columns, see `Encoder`, as [B, n]."""
        net, given = self.net, inputs[0] if self.encoder is None else self.encoder(*inputs)[:, None]
        stream = net.embed(given)
        for index in range(self.n_trained):
            stream = net.add_scores(stream, readout(net.features(stream, index), net.block(index).weight))
        scores = net.scores(stream)
        return scores if self.encoder is None else scores[:, 0]


def export_model(net: HierarchicalResNet, path: str | Path, table: FittedTable | None = None) -> None:
    """Writes a network, and how its inputs are made of a table's columns, for any number of rows at a time.

    The graph has the input `inputs`, float [B, |G|, d], and the output `scores` [B, |G|, n]. With a table it has the
    inputs `numbers`, float64 [B, columns], and if there are any `codes`, int64 [B, columns of categories], and the
    output `scores` [B, n]. The file says, as JSON called `hierlit.json`, which columns, categories and labels they are.

    Args:
        net: The network, on the CPU and in full precision.
        path: A file ending in `.onnx` or `.pt2`; it stays as it is until the new one is complete.
        table: How its inputs are made; None to take them as they are.

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
    encoder = None if table is None or not table.features.columns else Encoder(table.features)
    names = ["inputs"] if encoder is None else ["numbers", "codes"][: 1 + bool(encoder.sizes)]
    scores = Scores(net, encoder).eval()
    write = write_onnx if path.suffix == ".onnx" else write_pt2
    about = json.dumps(describe(net, table if encoder else None), ensure_ascii=False)
    with torch.no_grad(), quiet():
        write(scores, examples(net, encoder), names, path, about)


def describe(net: HierarchicalResNet, table: FittedTable | None) -> dict[str, Any]:
    """What a file says about its inputs and outputs, as plain values."""
    if table is None:
        return {"inputs": [net.n_locations, net.n_inputs], "scores": [net.n_locations, net.n_labels]}
    kinds = table.features.categories
    codes = {fit.name: fit.categories for fit in kinds}
    return {"numbers": table.features.kinds.numbers, "codes": codes, "labels": table.label_names}


def examples(net: HierarchicalResNet, encoder: Encoder | None) -> tuple[Tensor, ...]:
    """Inputs of two rows, to trace the graph with."""
    if encoder is None:
        return (torch.zeros(2, net.n_locations, net.n_inputs, dtype=net.block(0).weight.dtype),)
    numbers = torch.zeros(2, len(encoder.fill), dtype=torch.float64)
    return (numbers, torch.zeros(2, len(encoder.sizes), dtype=torch.long)) if encoder.sizes else (numbers,)


def any_batch(names: list[str]) -> tuple[tuple[dict[int, Any], ...]]:
    """The dynamic shapes of `Scores.forward`: every input's first dimension is the batch's."""
    return (tuple({0: torch.export.Dim("batch")} for _ in names),)


def write_pt2(scores: Scores, inputs: tuple[Tensor, ...], names: list[str], path: Path, about: str) -> None:
    """Writes a torch.export archive; `torch.export.load` reads it."""
    program = torch.export.export(scores, inputs, dynamic_shapes=any_batch(names))
    archive = BytesIO()  # its writer goes back to where it has been
    torch.export.save(program, archive, extra_files={ABOUT: about})
    replace_file(path, lambda sink: sink.write(archive.getbuffer()))


def write_onnx(scores: Scores, inputs: tuple[Tensor, ...], names: list[str], path: Path, about: str) -> None:
    """Writes an ONNX file."""
    try:
        import onnx
        import onnxscript  # noqa: F401  torch.onnx needs it
    except ImportError as error:
        raise ImportError("writing .onnx needs onnx and onnxscript: pip install hierlit[export]") from error
    program = torch.onnx.export(
        scores,
        inputs,
        dynamo=True,
        input_names=names,
        output_names=["scores"],
        dynamic_shapes=any_batch(names),
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {ABOUT: about})
    replace_file(path, lambda sink: sink.write(proto.SerializeToString()))


@contextmanager
def quiet() -> Iterator[None]:
    """Silences what exporters say of themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)
