"""The options of a discovery; none of them says what the hierarchy is."""

from dataclasses import dataclass, field
from math import ceil

from hierlit.discovery.structure.options import StructureOptions
from hierlit.layerwise.adaptive_draw import AdaptiveDraw
from hierlit.models.checks import is_count, one_of, raise_problems

NOISELESS_SHARE = 0.97
"""Of a label's variance: what a block must explain of one that can be predicted without error to be its level."""

FEWEST_PERMUTATIONS = 999
VIEWS = ("both", "rows", "labels")


@dataclass(frozen=True)
class DiscoverOptions:
    """How levels and parents are looked for.

    Args:
        seeds: Splits of the rows, each with draws of W¹ of its own.
        held_fraction: Share of the rows, in (0, 1), that a split holds out; five splits hold out each row once.
        n_rows: Rows to draw at random; all when None.
        n_blocks: Blocks of the layerwise fits, at least as many as there are levels.
        n_features: Random features of a block.
        adaptation: How W¹ is drawn again, in the fits for labels that can be predicted without error, and of parents.
        nearness: The level of a label that cannot is the first block that reaches this share of what is explained of it
            in the end, in (0, 1); of one that can, .97 is asked for.
        n_permutations: Of held-out label rows, for the p-values of labels; when None, 999 or as many as it takes for a
            single label of all to be found.
        max_parents: Most labels that a label is taken to be a function of.
        least_loss: Share of a label's variance, in (0, 1), that permuting a parent must cost on average.
        rate: False discovery rate of labels, and of edges, in (0, 1).
        null: Whether the null models are made too, which take as long as the search itself.
        view: What to look at: what rows can predict, `rows`; what labels say of one another, `labels`; or both.
        structure: How the latter is looked for.

    Raises:
        ValueError: One line naming each argument out of range.
    """

    seeds: int = 5
    held_fraction: float = 0.2
    n_rows: int | None = None
    n_blocks: int = 8
    n_features: int = 300
    adaptation: AdaptiveDraw = field(default_factory=AdaptiveDraw)
    nearness: float = 0.9
    n_permutations: int | None = None
    max_parents: int = 10
    least_loss: float = 0.1
    rate: float = 0.05
    null: bool = True
    view: str = "both"
    structure: StructureOptions = field(default_factory=StructureOptions)

    def __post_init__(self) -> None:
        counts = ["seeds", "n_blocks", "n_features", "max_parents"]
        counts += [name for name in ("n_rows", "n_permutations") if getattr(self, name) is not None]
        given = {name: getattr(self, name) for name in counts}
        problems = [
            f"{name} must be a positive integer, got {value}" for name, value in given.items() if not is_count(value)
        ]
        for name in ("held_fraction", "nearness", "least_loss", "rate"):
            value = getattr(self, name)
            if not 0 < value < 1:
                problems.append(f"{name} must be in (0, 1), got {value}")
        raise_problems(problems + one_of(VIEWS, view=self.view))

    def permutations(self, n_labels: int) -> int:
        """Permutations for so many labels: a p-value is 2/(P+1) at least, which must be below the rate over n."""
        return self.n_permutations or max(FEWEST_PERMUTATIONS, ceil(2 * n_labels / self.rate))
