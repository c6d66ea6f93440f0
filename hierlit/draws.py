"""Random draws that are the same on every machine and under every NumPy version, and the tables made from them."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - 2**64
MIX = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
"""Constants of SplitMix64, as signed words."""


class Draws:
    """A named stream of random numbers.

    Only the raw words of PCG64 are used, because NumPy keeps these fixed, while the methods of its ``Generator`` may
    change between versions.

    Args:
        seed: Non-negative seed; equal seeds give equal streams.
        name: What the stream is for; streams of different names are independent.
        *part: Number of the stream among those of that name, for example of an epoch, or of a block and its epoch.
    """

    def __init__(self, seed: int, name: str, *part: int) -> None:
        key = (*name.encode(), *(part or (0,)))
        self._bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key))

    def words(self, n: int) -> NDArray[np.uint64]:
        """Return ``n`` uniform 64-bit words."""
        return np.asarray(self._bits.random_raw(n), dtype=np.uint64)

    def bits(self, n_rows: int, n_bits: int) -> NDArray[np.uint8]:
        """Return uniform bits, 0 or 1, of shape [n_rows, n_bits]."""
        return unpack(self.words(n_rows * words_for(n_bits)).reshape(n_rows, words_for(n_bits)), n_bits)

    def integers(self, n: int, below: int) -> NDArray[np.int64]:
        """Return ``n`` integers in 0..below-1, uniform up to below / 2³² of bias; ``below`` is at most 2³²."""
        scaled: NDArray[np.uint64] = (self.words(n) >> np.uint64(32)) * np.uint64(below) >> np.uint64(32)
        return scaled.astype(np.int64)

    def uniform(self, n: int) -> NDArray[np.float64]:
        """Return ``n`` numbers uniform in [0, 1)."""
        numbers: NDArray[np.float64] = (self.words(n) >> np.uint64(11)) * 2.0**-53
        return numbers

    def permutation(self, n: int) -> NDArray[np.int64]:
        """Return a random order of 0..n-1."""
        return np.argsort(self.words(n), kind="stable").astype(np.int64)


def words_for(n_bits: int) -> int:
    """Return the number of words that hold so many bits."""
    return -(-n_bits // 64)


def unpack(words: NDArray[np.uint64], n_bits: int) -> NDArray[np.uint8]:
    """Return the first ``n_bits`` bits [rows, n_bits] of words [rows, n_words], the least significant first."""
    return np.unpackbits(words.astype("<u8").view(np.uint8), axis=1, bitorder="little")[:, :n_bits]


def draw_rows(n_rows: int, n_bits: int, draws: Draws) -> NDArray[np.uint8]:
    """Draw uniform rows of bits without repetition.

    Args:
        n_rows: Number of rows.
        n_bits: Bits in a row.
        draws: Where the randomness comes from.

    Returns:
        Bits 0 or 1 of shape [n_rows, n_bits], all rows distinct. Where there are only 2^n_bits < n_rows distinct rows,
        they are drawn with repetition instead, with a warning.
    """
    if n_rows > 2**n_bits:
        warnings.warn(
            f"{n_rows} rows were asked for, but {n_bits} bits have only {2**n_bits} states: "
            "rows repeat, also between train, val and test",
            stacklevel=2,
        )
        return draws.bits(n_rows, n_bits)
    if 2 * n_rows > 2**n_bits:
        codes = draws.permutation(2**n_bits)[:n_rows, None]
        return ((codes >> np.arange(n_bits)) & 1).astype(np.uint8)
    rows = draws.bits(n_rows, n_bits)
    while len(first := first_occurrences(rows)) < n_rows:
        rows = np.concatenate([rows[first], draws.bits(n_rows - len(first), n_bits)])
    return rows


def first_occurrences(rows: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Return where each distinct row of bits is first, ascending."""
    packed = np.packbits(rows, axis=1)
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    return np.sort(np.unique(keys, return_index=True)[1])


def split_tables(
    inputs: NDArray[np.uint8], labels: NDArray[np.uint8], sizes: Sequence[int]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Turn bits into ±1 tables for train, val and test.

    Args:
        inputs: Bits of shape [rows, |G|, d].
        labels: Bits of shape [rows, |G|, n].
        sizes: Rows of train, val and test, in this order, adding up to all rows.

    Returns:
        For each split, inputs [rows, |G|, d] and labels [rows, |G|, n], float32 in {-1, 1}.
    """
    bounds = np.cumsum([0, *sizes])
    parts = {split: slice(bounds[part], bounds[part + 1]) for part, split in enumerate(("train", "val", "test"))}
    return {split: (as_signs(inputs[rows]), as_signs(labels[rows])) for split, rows in parts.items()}


def as_signs(bits: NDArray[np.uint8]) -> Tensor:
    """Map bits 0, 1 to float32 -1, +1 of the same shape."""
    return torch.from_numpy(2.0 * bits.astype(np.float32) - 1.0).float()


def generator_of(*seed: int) -> torch.Generator:
    """Return torch's generator of a stream of its own."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))


def uniform(rows: Tensor, n_locations: int, width: int, *seed: int) -> Tensor:
    """Return numbers [B, n_locations, width] uniform in [-1, 1), each by its row, place and seed alone.

    Whatever batch, process or device a row [B] is in, its numbers are the same: the finaliser of SplitMix64 (Steele,
    Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) of a counter.
    """
    key = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> np.uint64(1))
    places = torch.arange(n_locations * width, device=rows.device)
    mixed = (rows.long()[:, None] * (n_locations * width) + places) * GOLDEN + key
    for shift, factor in ((30, MIX[0]), (27, MIX[1])):
        mixed = (mixed ^ (mixed >> shift & (1 << (64 - shift)) - 1)) * factor
    mixed = mixed ^ (mixed >> 31 & (1 << 33) - 1)
    return ((mixed >> 40).to(torch.get_default_dtype()) / 2**23).view(len(rows), n_locations, width)
