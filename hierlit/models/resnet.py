"""The paper's network: a residual stream that every block reads through random features and writes scores to."""

import re
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierlit.models.block import Block, ResidualBlock, windows_read
from hierlit.models.calibration import Calibration
from hierlit.models.checks import is_count, one_of, raise_problems
from hierlit.models.features import Features, GaussianFeatures
from hierlit.models.first_layer import ROUNDINGS, frozen
from hierlit.models.neighbours import Neighbours
from hierlit.models.proximity import Proximity, Windows, windows_of

NUMBERS_AT_ONCE = 2**23
"""Features that `staged_scores` computes at a time."""
OUTPUTS = ("split", "orthogonal")
OPTIONAL_SIZES = ("masked", "pooled", "neighbours")
"""Of `HierarchicalResNet.sizes`, those that a network which does without has not got."""


class HierarchicalResNet(nn.Module):
    """The network of the paper: Γ_0 embeds the input, Γ_k = Γ_{k−1} + block k, scores ŷ = W^D Γ.

    Args:
        n_inputs: Input channels d per location.
        n_labels: Labels n per location.
        n_locations: Locations |G| of an example.
        proximity: The windows E_g; those of `windows_of(grid)` when None.
        n_blocks: Number D−1 of residual blocks.
        n_features: Features q per block.
        features: How the blocks' first layers are made; `GaussianFeatures`, the paper's, when None.
        output: `split` keeps the stream as [x, scores]; `orthogonal` stores it rotated by a random orthogonal matrix
            whose last n rows are W^D. With Gaussian W¹ the two are equal in distribution.
        weight_seed: Seed of every frozen draw.
        masked: Whether input channel 0 says where an example has a location, 1, or is padded, 0. Scores stay 0 where it
            is padded, so that a window sees zeros there as it does beyond an end.
        neighbours: Windows of the locations whose labels a location is to know as well (ours): the stream, which
            carries nothing but labels, then tells more of what it has seen. Their centre is the location itself.
        pooled: Whether labels are those of examples: every location learns them, and an example's scores are the means
            over its locations (ours). The mean and not a learned read-out: there is nothing more to fit, so that blocks
            are solved one by one as ever, and padding does not change it.
        grid: The shape of the locations, as of data: (T,) of sequences, (H, W) of images; each location sees itself
            alone when neither it nor `proximity` is given.
        is_sized: Whether a block has no features until it is trained, when it is given as many as it needs, at most
            `n_features`; see `SizedDraw` (ours).

    Attributes:
        calibration: Maps the scores ŷ to probabilities.
        n_scores: Scores of the stream: the n labels of a location, then those of its neighbours.

    Raises:
        ValueError: One line for each argument out of range.
    """

    def __init__(
        self,
        n_inputs: int,
        n_labels: int,
        n_locations: int = 1,
        proximity: Proximity | None = None,
        n_blocks: int = 10,
        n_features: int = 500,
        features: Features | None = None,
        output: str = "split",
        weight_seed: int = 0,
        masked: bool = False,
        neighbours: Proximity | None = None,
        pooled: bool = False,
        grid: Sequence[int] | None = None,
        is_sized: bool = False,
    ) -> None:
        super().__init__()
        sizes = {"n_inputs": n_inputs, "n_labels": n_labels, "n_locations": n_locations}
        sizes |= {"n_blocks": n_blocks, "n_features": n_features}
        problems = [
            f"{name} must be a positive integer, got {size}" for name, size in sizes.items() if not is_count(size)
        ]
        self.features = features or GaussianFeatures()
        problems += one_of(OUTPUTS, output=output)
        if output in OUTPUTS and output != "split" and not self.features.is_drawn:
            problems.append(f"output must be split with {type(self.features).__name__}, got {output!r}")
        if is_sized and output != "split":
            problems.append(f"output must be split where blocks size themselves, got {output!r}")
        if masked and output != "split":
            problems.append(f"output must be split where examples are padded, got {output!r}")
        raise_problems(problems)
        self.n_inputs, self.n_labels, self.n_locations, self.n_features = n_inputs, n_labels, n_locations, n_features
        first_layers = f"{'sized ' * is_sized}{described(self.features)}"
        self.draw: dict[str, int | str] = {"first_layers": first_layers, "weight_seed": weight_seed}
        self.proximity = proximity or windows_of(grid)
        self.windows = Windows(self.proximity.table(n_locations))
        self.masked, self.pooled = masked, pooled
        self.neighbours = None if neighbours is None else Neighbours(neighbours.table(n_locations))
        self.n_scores = n_labels * (1 if self.neighbours is None else self.neighbours.windows.size)
        generator = torch.Generator().manual_seed(weight_seed)
        width = n_inputs + self.n_scores
        self.rotation: nn.Parameter | None = None
        if output == "orthogonal":
            self.rotation = frozen(torch.linalg.qr(torch.randn(width, width, generator=generator))[0])
        drawn = (
            self.features.first_layer(self.windows.size * width, 0 if is_sized else n_features, generator)
            for _ in range(n_blocks)
        )
        self.blocks = nn.ModuleList(ResidualBlock(first_layer, self.n_scores) for first_layer in drawn)
        self.calibration = Calibration(n_labels)
        self.register_buffer("n_trained", torch.zeros((), dtype=torch.long))
        self.n_trained: Tensor

    @property
    def sizes(self) -> dict[str, int | str]:
        """What two networks must share for one to take the other's weights."""
        own: dict[str, int | str] = {
            "n_inputs": self.n_inputs,
            "n_labels": self.n_labels,
            "n_locations": self.n_locations,
            "window": self.windows.size,
            "n_blocks": len(self.blocks),
            "n_features": self.n_features,
            "features": self.features.kind,
            "output": "split" if self.rotation is None else "orthogonal",
        }
        own |= {name: 1 for name in ("masked", "pooled") if getattr(self, name)}
        return own if self.neighbours is None else own | {"neighbours": self.neighbours.windows.size}

    def block(self, index: int) -> ResidualBlock:
        """Block number `index`, from 0."""
        block: ResidualBlock = self.blocks[index]  # type: ignore[assignment]
        return block

    def frozen_block(self, index: int) -> Block:
        """Block number `index`, from 0, without its weight; until it is trained, with its features as `opened`."""
        block = self.block(index)
        features = block.features if index < int(self.n_trained) else block.features.opened()
        return Block(features, self.windows, index, block.labels)

    @property
    def rounding(self) -> str | None:
        """What the features of all blocks are rounded to; see `FirstLayer`. It travels with trained weights.

        Raises:
            ValueError: If it is set to something else than None, bfloat16, float16 or tf32.
        """
        return self.block(0).features.rounding

    @rounding.setter
    def rounding(self, rounding: str | None) -> None:
        if rounding not in (None, *ROUNDINGS):
            raise ValueError(f"rounding must be None or one of {', '.join(ROUNDINGS)}, got {rounding!r}")
        for index in range(len(self.blocks)):
            self.block(index).features.rounding = rounding

    def compile_features(self, compiled: bool = True) -> None:
        """Compute the features of all blocks by one function that torch.compile makes when it is first needed."""
        for index in range(len(self.blocks)):
            self.block(index).features.compiled = compiled

    @property
    def output_weight(self) -> Tensor:
        """W^D [n, d+n], orthonormal rows, never trained."""
        if self.rotation is not None:
            return self.rotation[self.n_inputs :]
        weight = self.block(0).weight
        return torch.eye(self.n_inputs + self.n_scores, dtype=weight.dtype, device=weight.device)[self.n_inputs :]

    def embed(self, inputs: Tensor) -> Tensor:
        """Γ_0 [B, |G|, d+n] of inputs [B, |G|, d], in the orthogonal complement of W^D's row space."""
        if self.rotation is None:
            return F.pad(inputs, (0, self.n_scores))
        return inputs @ self.rotation[: self.n_inputs]

    def split(self, stream: Tensor) -> Tensor:
        """Return the stream [B, |G|, d+n] in the coordinates [x, scores]."""
        return stream if self.rotation is None else stream @ self.rotation.T

    def scores(self, stream: Tensor) -> Tensor:
        """Scores ŷ = W^D Γ [B, |G|, n_scores] of a stream [B, |G|, d+n_scores]; see `answers`."""
        return self.split(stream)[..., self.n_inputs :]

    def answers(self, stream: Tensor) -> Tensor:
        """Label scores [B, |G|, n] of a stream: where neighbours know a location's labels too, the mean of all.

        Of labels of examples, an example's mean over its locations, the same at each place.
        """
        scores = self.scores(stream)
        exists = self.exists(stream)
        if self.neighbours is not None:
            scores = self.neighbours.mean(scores, exists)
        if self.pooled:
            scores = (scores.sum(1, keepdim=True) / exists.sum(1, keepdim=True).clamp(min=1)).expand_as(scores)
        return scores

    def judged(self, answers: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return answers [B, |G|, n], and of the labels that the stream is to know [B, |G|, n_scores] theirs.

        Of labels of examples once an example, [B, 1, n].
        """
        labels = labels[..., : self.n_labels]
        return (answers[:, :1], labels.sum(1, keepdim=True).sign()) if self.pooled else (answers, labels)

    def with_neighbours(self, labels: Tensor, inputs: Tensor) -> Tensor:
        """Labels [B, |G|, n_scores] that the stream is to know, of labels [B, |G|, n] and inputs [B, |G|, d].

        A label that is observed at a location does not hold, −1, for a neighbour that does not exist.
        """
        if self.neighbours is None:
            return labels
        return self.neighbours.labels(labels, self.exists(inputs))

    def exists(self, inputs: Tensor) -> Tensor:
        """Where inputs [B, |G|, d], or a stream, have a location: 1, else 0, [B, |G|, 1]."""
        return inputs[..., :1] if self.masked else torch.ones_like(inputs[..., :1])

    def present(self, inputs: Tensor) -> Tensor | None:
        """Numbers [P] of the pairs (row, location) of inputs [B, |G|, d] that exist; None if all do."""
        return inputs[..., 0].flatten().nonzero()[:, 0] if self.masked else None

    def split_coordinates(self, weight: Tensor) -> Tensor:
        """First-layer weights [q, w·(d+n)] that act on windows of the stream, as they act on windows of [x, scores]."""
        if self.rotation is None:
            return weight
        return (weight.view(len(weight), self.windows.size, -1) @ self.rotation.T).flatten(1)

    def stream_coordinates(self, weight: Tensor) -> Tensor:
        """Return the inverse of `split_coordinates`."""
        if self.rotation is None:
            return weight
        return (weight.view(len(weight), self.windows.size, -1) @ self.rotation).flatten(1)

    def features_of(self, stream: Tensor, index: int) -> Tensor:
        """Features [B, |G|, q] that block `index` computes of a stream [B, |G|, d+n]."""
        layer = self.block(index).features
        features: Tensor = layer(windows_read(layer, self.windows, stream))
        return features

    def advance(self, stream: Tensor, index: int) -> Tensor:
        """Return the stream after block `index`, of the stream before it; both [B, |G|, d+n]."""
        block = self.block(index)
        return self.add_scores(stream, block(windows_read(block.features, self.windows, stream)), block.labels)

    def add_scores(
        self, stream: Tensor, change: Tensor, labels: Tensor | None = None, in_place: bool = False
    ) -> Tensor:
        """Return a stream [B, |G|, d+n] whose scores have changed by [B, |G|, n], where there are locations.

        Args:
            stream: The stream.
            change: The change, of some labels alone [B, |G|, n'] where these are given.
            labels: Those labels [n'].
            in_place: Whether the stream itself changes.
        """
        if self.masked:
            change = change * stream[..., :1]
        if labels is not None and self.rotation is None:
            columns = self.n_inputs + labels
            return stream.index_add_(-1, columns, change) if in_place else stream.index_add(-1, columns, change)
        if labels is not None:
            change = torch.zeros_like(stream[..., self.n_inputs :]).index_copy_(-1, labels, change)
        moved = F.pad(change, (self.n_inputs, 0)) if self.rotation is None else change @ self.rotation[self.n_inputs :]
        return stream.add_(moved) if in_place else stream + moved

    def stream(self, inputs: Tensor) -> Tensor:
        """Γ [B, |G|, d+n] after the blocks trained so far, of inputs [B, |G|, d]."""
        stream = self.embed(inputs)
        for index in range(int(self.n_trained)):
            stream = self.advance(stream, index)
        return stream

    @torch.no_grad()
    def staged_scores(self, inputs: Tensor) -> Iterator[Tensor]:
        """Yield the scores [N, |G|, n] of inputs [N, |G|, d] after each trained block, a few rows at a time."""
        stream = self.embed(inputs.to(self.block(0).weight))
        for index in range(int(self.n_trained)):
            width = max(1, sum(self.block(index).features.weight.shape))
            parts = torch.split(stream, max(1, NUMBERS_AT_ONCE // (self.n_locations * width)))
            stream = torch.cat([self.advance(part, index) for part in parts])
            yield self.answers(stream)

    def forward(self, inputs: Tensor) -> Tensor:
        """Label scores [B, |G|, n] of inputs [B, |G|, d], see `answers`; a block not yet trained is the identity."""
        scores: Tensor = self.answers(self.stream(inputs))
        return scores


def described(thing: object) -> str:
    """Return a `repr` that is the same in every process: the class's own, or the class with its attributes."""
    has_own = type(thing).__repr__ is not object.__repr__
    text = repr(thing) if has_own else f"{type(thing).__name__}({getattr(thing, '__dict__', {})})"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)
