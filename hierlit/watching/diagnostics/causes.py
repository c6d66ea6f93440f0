"""Why a label was not learned: rules on what a run has seen, one cause, its evidence and one setting a label (ours)."""

from collections.abc import Sequence
from dataclasses import dataclass

from hierlit.watching.diagnostics.evidence import Evidence, Probes
from hierlit.watching.diagnostics.signatures import Finding

UNOBSERVED, NOISE, DEPENDS = "not observed", "noise-limited", "what it depends on not learned yet"
BLOCKS, FEATURES, WINDOW, ROWS = "more blocks needed", "too few features", "window too narrow", "too few rows"
REFUSED, UNKNOWN = "refused by acceptance", "not known"

FLIPS = 0.02
"""Rate of wrong signs, weighted by ŷ², from which they may be noise."""
EXPLAINED = 0.65
"""Share of what noise at that rate leaves explainable that a noise-limited label has explained."""
GAIN = 0.05
"""Share of a label's error that a change must remove to count."""
MUCH = 0.2
"""Share of it from which a further block is what is missing, a wider window counts, and noise is not the limit."""
LEAST = 1e-9
"""Least error that is divided by."""


@dataclass(frozen=True)
class RunSettings:
    """What may be changed, as a run has it.

    Attributes:
        n_blocks: Blocks trained.
        n_features: q.
        window: Locations of a window.
        n_rows: Rows fitted.
        n_declared: Blocks that the network has.
        names: Of the labels.
        no_negatives: Whether observed labels are all 1.
        unobserved: The model's treatment of labels that are not observed.
        learned_accuracy: Accuracy from which a label counts as learned.
        more_rows: What to do for more rows.
    """

    n_blocks: int
    n_features: int
    window: int
    n_rows: int
    n_declared: int
    names: Sequence[str]
    no_negatives: bool = False
    unobserved: str = "ignore"
    learned_accuracy: float = 0.999
    more_rows: str = "raise data.n_train"


@dataclass(frozen=True)
class Unlearned:
    """A row of `unlearned.csv`: a label that was not learned, its level ("" if unknown), and why.

    Attributes:
        label: The label's name.
        level: Its level.
        accuracy: As reported.
        cause: One of those above.
        evidence: The numbers that say so.
        setting: The one setting to change.
        after: Numbers of the labels, from 0, that it depends on and that are not learned.
        asked: The accuracy from which it would count as learned.
    """

    label: str
    level: int | str
    accuracy: float
    cause: str
    evidence: str
    setting: str
    after: tuple[int, ...] = ()
    asked: float = 1.0

    def __str__(self) -> str:
        level = "" if self.level == "" else f", level {self.level}"
        accuracy = f"accuracy {self.accuracy:.4f} of {self.asked:g}"
        return f"label {self.label}{level}, {accuracy}: {self.cause} ({self.evidence}); {self.setting}"


def explain(
    evidence: Evidence,
    settings: RunSettings,
    levels: Sequence[int] | None,
    parents: Sequence[Sequence[int]],
    learned_by: Sequence[int | None],
    lacking: Sequence[Finding | None],
) -> list[Unlearned]:
    """Return one row for each label not learned.

    Args:
        evidence: What is known.
        settings: What may be changed.
        levels: Each label's level, None if unknown.
        parents: Labels that each label depends on; none where that is unknown.
        learned_by: The block, from 1, that learned each label; None if none did or if blocks were not trained in turn.
        lacking: For each label, what of its degree is missing from the kernel.
    """
    rows: dict[int, Unlearned] = {}
    order = range(len(parents)) if levels is None else sorted(range(len(parents)), key=lambda label: levels[label])
    for label in order:
        if bool(evidence.learned[label]):
            continue
        level = "" if levels is None else levels[label]
        missing = [parent for parent in parents[label] if not bool(evidence.learned[parent])]
        lacks = lacking[label]
        late = [parent for parent in parents[label] if learned_by[parent] == settings.n_blocks]
        found = (
            unseen(evidence, settings, label)
            or noise(evidence, settings, label, level == 0)
            or waiting(missing, parents[label], rows)
            or (lacks and (lacks.signature, lacks.evidence, lacks.remedy))
            or out_of_blocks(late, settings, evidence.probes is None)
            or (evidence.probes and tried(evidence.probes, settings, label, bool(evidence.refused[label])))
            or (UNKNOWN, "the run was cut short", "none")
        )
        name, accuracy = settings.names[label], float(evidence.accuracy[label])
        rows[label] = Unlearned(name, level, accuracy, *found, tuple(missing), settings.learned_accuracy)
    return [rows[label] for label in sorted(rows)]


Found = tuple[str, str, str]
"""A cause, its evidence, and the setting to change."""


def unseen(evidence: Evidence, settings: RunSettings, label: int) -> Found | None:
    """Nothing, or nothing to tell it by, is observed of the label."""
    share = float(evidence.observed[label])
    if share == 0:
        return UNOBSERVED, "in no training row", "observe it: supervision, or data"
    if settings.no_negatives and settings.unobserved == "ignore":
        return UNOBSERVED, f"in {share:.0%} of the training pairs, always as 1", "set model.unobserved"
    return None


def noise(evidence: Evidence, settings: RunSettings, label: int, is_coin: bool) -> Found | None:
    """Return whether the label explains what its flips leave explainable and nothing helps much, or has no level."""
    if is_coin:
        return NOISE, "of level 0: no function of the input", "leave it out"
    probes = evidence.probes
    if probes is None or float(probes.flips[label]) < FLIPS or float(probes.explained[label]) < EXPLAINED:
        return None
    flips, gains = float(probes.flips[label]), changes(probes, label)
    excess = float(probes.fresh[label] - probes.fitted[label])
    if max(gains[cause] for cause in gains if cause != ROWS) >= MUCH or excess > 4 * flips * (1 - flips):
        return None
    shown = f"on set-aside rows {flips:.1%} of signs, weighted by score², are wrong and all else is explained"
    if float(evidence.accuracy[label]) > 1 - flips + FLIPS:
        return NOISE, shown, f"{settings.more_rows}: more rows average flips out"
    return NOISE, shown, f"model.learned_accuracy: no more than {1 - flips:.3f} can be reached"


def waiting(missing: Sequence[int], parents: Sequence[int], rows: dict[int, Unlearned]) -> Found | None:
    """Labels that it depends on are not learned; the setting is that of the first of those that wait for none."""
    if not missing:
        return None
    first = root = rows[missing[0]]
    while root.cause == DEPENDS:
        root = rows[root.after[0]]
    which = f"{len(missing)} of {len(parents)} labels, among them" if len(parents) > 1 else "it is"
    behind = "" if root is first else f", behind label {root.label}"
    return DEPENDS, f"{which} label {first.label}, accuracy {first.accuracy:.4f}{behind}: {root.cause}", root.setting


def out_of_blocks(late: Sequence[int], settings: RunSettings, is_cut_short: bool) -> Found | None:
    """No block followed what it depends on, or the run was ended before its last block."""
    done, declared = settings.n_blocks, settings.n_declared
    if is_cut_short and done < declared:
        return (
            BLOCKS,
            f"the run ended after {done} of {declared} blocks",
            "raise trainer.max_epochs or trainer.max_time",
        )
    if late:
        return (
            BLOCKS,
            f"label {settings.names[late[0]]} was learned by block {done}, the last",
            f"raise model.n_blocks, now {declared}",
        )
    return None


def tried(probes: Probes, settings: RunSettings, label: int, was_refused: bool) -> Found:
    """Return what would lower its error on set-aside rows most."""
    gains = changes(probes, label)
    shown = "its error would fall by " + ", ".join(
        f"{gain:.0%} {NAMES[cause].format(t=probes)}" for cause, gain in gains.items()
    )
    best = BLOCKS if gains[BLOCKS] >= MUCH else max(gains, key=lambda cause: gains[cause])
    if gains[best] < GAIN and settings.no_negatives:
        return UNOBSERVED, f"as 1 alone; {shown}", "observe -1 too: supervision, or data"
    if gains[best] < GAIN:
        return UNKNOWN, shown, "none of these"
    if best == BLOCKS and was_refused:
        return REFUSED, f"as the last block was; {shown}", "set layerwise.acceptance to gain"
    return best, shown, REMEDIES[best].format(s=settings)


NAMES = {
    BLOCKS: "with a further block",
    FEATURES: "from {t.n_features[0]} to {t.n_features[1]} features",
    WINDOW: "with windows of {t.n_locations}",
    ROWS: "with twice the rows",
}
REMEDIES = {
    BLOCKS: "raise model.n_blocks, now {s.n_declared}",
    FEATURES: "raise model.n_features, now {s.n_features}",
    WINDOW: "widen model.proximity, now windows of {s.window}",
    ROWS: "{s.more_rows}: {s.n_rows} rows are fitted",
}


def changes(probes: Probes, label: int) -> dict[str, float]:
    """By what share of the label's error on set-aside rows each change would lower it.

    What twice the rows would do is taken to be what twice half of them did, less if that was seen on a part of them. A
    wider window counts if it lowers the error much.
    """
    fresh, half = float(probes.fresh[label]), float(probes.half[label])
    found = {
        BLOCKS: fall(float(probes.now[label]), float(probes.next[label])),
        FEATURES: fall(*probes.features[:, label].tolist()),
        ROWS: fall(half, fresh) * min(1.0, probes.part),
    }
    if probes.window is not None and (gain := fall(fresh, float(probes.window[label]))) >= MUCH:
        found[WINDOW] = gain
    return found


def fall(before: float, after: float) -> float:
    """By what share of itself an error falls; 0 if it does not."""
    return max(0.0, before - after) / max(before, LEAST)
