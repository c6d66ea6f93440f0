"""Blocks that size themselves: as few random features, of as few channels, as learn what can be learned next (ours)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from hierlit.layerwise.adaptive_draw import AdaptiveDraw
from hierlit.layerwise.draw_search import DrawSearch
from hierlit.layerwise.problem import BlockProblem
from hierlit.models.checks import is_count, raise_problems

FADING = 0.5
"""What the importance of an age counts for a block later."""
FAINTEST = 1e-2
"""Importance from which it still counts."""
PATIENCE = 3
"""Blocks in a row that do not lower the number of wrong signs, after which a run ends."""
INPUT, UNLEARNED = 0, -1
"""Ages of channels that are no learned labels'."""


@dataclass(frozen=True)
class SizedDraw(AdaptiveDraw):
    """Draw a block's W¹ in attempts that grow until, on set-aside rows, the block learns a label it did not know.

    The first attempt has `smallest` features. It reads the channels that the blocks before leaned on, by their age: the
    number of blocks since a label was learned. Where levels build on one another that is the level before, however many
    are known. A second attempt has four times as many features. If nothing is learned so, further attempts read all
    channels that are not always 0, with as many features, then four times as many each, up to `n_features` of the
    network. Attempts are redrawn as `AdaptiveDraw` does. A draw that learns has `FEATURES_PER_TARGET` features for each
    label that gains nearly as much; unless it is as good as need be at once, it is drawn again and reads no channel
    that its labels hardly depend on. Labels that have their margin on all training rows are left as they are. If
    nothing is learned, the last draw is kept for all labels, and acceptance judges.

    While a block is fitted, its windows carry noise, so that it maps all that is near a corner of the cube to the same
    score. Without noise an error in a score grows from level to level; with much of it, windows that are rare are given
    up for those that are not. So there is less of it if the labels learned so far are hardly ever wrong: if they are
    wrong at rate p, it is multiplied by 2√(p(1−p)), the standard deviation of such flips.

    Args:
        smallest: Features of the first attempt.
        noise: Standard deviation of the noise before a label is learned, in units of the root mean square of each
            label's score, and of the standard deviation of inputs that have two values; none on other inputs.
        least_noise: What it does not fall below, in the same units.

    Raises:
        ValueError: One line naming each argument out of range.
    """

    smallest: int = 64
    noise: float = 0.2
    least_noise: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = [] if is_count(self.smallest) else [f"smallest must be a positive integer, got {self.smallest}"]
        for name, size in (("noise", self.noise), ("least_noise", self.least_noise)):
            is_fine = isinstance(size, Real) and 0 <= size < math.inf
            problems += [] if is_fine else [f"{name} must be 0 or more, got {size}"]
        raise_problems(problems)

    def labels(self, memory: dict[str, Any], n_scores: int) -> Tensor | None:
        """Return the scores [n'] that blocks still change."""
        unlearned = memory.get("unlearned")
        if unlearned is None or not unlearned.any():
            return None
        left: Tensor = unlearned.repeat(n_scores // len(unlearned)).nonzero()[:, 0]
        return left

    def note(self, memory: dict[str, Any], block: int, train: dict[str, Tensor], accepted: Tensor) -> None:
        """Remember when a label was learned, and which have their margin on every training row.

        Args:
            memory: Gets `since` [n], the number of blocks after which a label was learned, −1 if it is not; `unlearned`
                [n]; `wrong` [n], the share of training rows in which a label's sign is wrong; `least_wrong`, the least
                sum of these so far; `in_vain`, the number of blocks since it fell; and `ages`, the importance of
                channels by their age.
            block: Number of the block, from 0.
            train: Metrics [n] of all training rows after the block.
            accepted: Labels that the block changes, boolean [n].
        """
        since = memory.get("since", torch.full_like(train["accuracy"], -1, dtype=torch.long))
        opened = memory.pop("opened")
        learned = torch.zeros_like(since, dtype=torch.bool).index_fill_(0, opened["learns"], True)
        memory["since"] = since.where((since >= 0) | ~(learned & accepted), block + 1)
        memory["unlearned"], memory["ages"] = train["margin_error"] > 0, opened["ages"]
        memory["wrong"] = wrong = 1 - train["accuracy"]  # NaN of a label that is never observed
        total, least = float(wrong.nansum()), memory.get("least_wrong", float(wrong.isfinite().sum()))
        memory["in_vain"] = 0 if total < least else memory.get("in_vain", 0) + 1
        memory["least_wrong"] = min(total, least)

    def noise_for(self, memory: dict[str, Any]) -> float:
        """Return the noise that the labels learned so far ask for."""
        if "wrong" not in memory or not (known := memory["since"] >= 0).any():
            return self.noise
        flips = float(memory["wrong"][known].nanmean().nan_to_num())
        return min(self.noise, max(self.least_noise, 2 * math.sqrt(flips * (1 - flips)) * self.noise))

    @torch.no_grad()
    def open(self, problem: BlockProblem, memory: dict[str, Any]) -> BlockProblem | None:
        """Leave the block with the first draw of W¹ that learns; with the last, if none does.

        Args:
            problem: The block, whose features are redrawn in place; by the squared loss, whatever its ℓ.
            memory: See `note`; gets `opened`, what that needs of this block.

        Returns:
            The problem of the labels that gain; of all, if none is learned. None if every label has its margin on
            every training row, `PATIENCE` blocks in a row did not lower the number of wrong signs, or there is nothing
            to read.
        """
        weights, device = memory.get("ages", {}), problem.penalty.device
        memory["opened"] = {"learns": torch.zeros(0, dtype=torch.long, device=device), "ages": weights}
        if memory.get("all_have_margin") or memory.get("in_vain", 0) >= PATIENCE:
            return None
        few, ages = problem.squared().leading(self.n_pairs), ages_of(problem, memory)
        known = few.block.of_labels(ages[few.rows.net.n_inputs :] >= 1)
        search = DrawSearch(few, known, self, self.noise_for(memory))
        if not search.power.any():
            return None
        guess = sum((weight * (ages == age) for age, weight in weights.items()), torch.zeros_like(search.power))
        best = search.run(guess, self.smallest)
        if best is None:
            return problem
        importance, channels = search.importance(best, best.learned)
        shares = importance.view(len(importance), -1, len(channels)).sum(1)
        shares = (shares / shares.amax(1, keepdim=True)).mean(0)
        faded = {age: FADING * weight for age, weight in weights.items() if FADING * weight >= FAINTEST}
        found = {age: float(shares[ages[channels] == age].max()) for age in set(ages[channels].tolist())}
        numbers = problem.block.of_labels(torch.arange(problem.rows.net.n_scores, device=device))[best.learned]
        learns = numbers[numbers < problem.rows.net.n_labels]
        memory["opened"] = {"learns": learns, "ages": faded | found}
        return problem.of_labels(best.gains)


def ages_of(problem: BlockProblem, memory: dict[str, Any]) -> Tensor:
    """Return the age of each channel of [x, scores], [d+n]: the number of blocks since its label was learned."""
    net = problem.rows.net
    since = memory.get("since", torch.full((net.n_labels,), -1)).to(problem.penalty.device)
    ages = (problem.block.index + 1 - since).where(since >= 0, UNLEARNED)
    return torch.cat([ages.new_full((net.n_inputs,), INPUT), ages.repeat(net.n_scores // net.n_labels)])


torch.serialization.add_safe_globals([SizedDraw])
