"""The residual stream before the active block, computed once per block and kept for every batch of every split."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from hierlit.data.base import Batch
from hierlit.models.resnet import HierarchicalResNet


@dataclass
class Chunk:
    """One batch as the active block sees it.

    Attributes:
        stream: Γ before the active block, [B, |G|, d+n].
        labels: Labels in {−1, 0, 1}, [B, |G|, n].
        features: The active block's features [B, |G|, q] where they are kept, else None.
    """

    stream: Tensor
    labels: Tensor
    features: Tensor | None = None


class StreamCache:
    """Chunks by split and batch. A batch is known by its first row, since rows are grouped into batches once.

    Args:
        net: The network whose stream is kept.
        feature_budget: Bytes of the active block's features that may be kept; beyond it they are recomputed.
    """

    def __init__(self, net: HierarchicalResNet, feature_budget: float) -> None:
        self.net, self.feature_budget = net, feature_budget
        self._chunks: dict[str, dict[int, Chunk]] = {}

    def fill(self, split: str, batches: Iterable[Batch]) -> None:
        """Runs the trained blocks once over a split's batches."""
        kept = (batch for batch in batches if len(batch.index))
        self._chunks[split] = {int(batch.index[0]): self.chunk(batch) for batch in kept}

    def chunk(self, batch: Batch) -> Chunk:
        """A batch's chunk computed from its inputs."""
        return Chunk(self.net.stream(batch.inputs), batch.labels)

    def get(self, split: str, batch: Batch) -> Chunk:
        """A batch's chunk, from the cache if it is there."""
        kept = self._chunks.get(split, {}).get(int(batch.index[0])) if len(batch.index) else None
        return kept if kept is not None and len(kept.stream) == len(batch.index) else self.chunk(batch)

    def chunks(self, split: str) -> Iterator[Chunk]:
        """All chunks of a split that this process holds."""
        return iter(self._chunks.get(split, {}).values())

    def features(self, chunk: Chunk, block: int) -> Tensor:
        """The active block's features of a chunk, [B, |G|, q]."""
        return chunk.features if chunk.features is not None else self.net.features(chunk.stream, block)

    def keep_features(self, split: str, block: int) -> None:
        """Computes the block's features of a split once and keeps them, as far as the budget goes."""
        left = self.feature_budget
        n_features = self.net.block(block).features.weight.shape[0]
        for chunk in self.chunks(split):
            left -= chunk.stream[..., 0].numel() * n_features * chunk.stream.element_size()
            if left < 0:
                break
            chunk.features = self.net.features(chunk.stream, block)

    def advance(self, block: int) -> None:
        """Moves every chunk past a block that has just been trained."""
        for chunks in self._chunks.values():
            for chunk in chunks.values():
                chunk.stream, chunk.features = self.net.advance(chunk.stream, block), None

    def clear(self) -> None:
        """Forgets everything."""
        self._chunks.clear()
