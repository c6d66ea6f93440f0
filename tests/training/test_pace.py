"""Work that can wait has its share of the time and no more, whatever it takes and whenever it is asked for."""

from dataclasses import dataclass

import hypothesis.strategies as st
from hypothesis import given

from hierlit.training.pace import Pace

seconds = st.integers(0, 100)


@dataclass
class Clock:
    """A clock that is set by hand."""

    time: float = 0.0

    def __call__(self) -> float:
        return self.time


@given(share=st.floats(0.01, 1), first=seconds, steps=st.lists(st.tuples(seconds, seconds), max_size=30))
def test_each_time_what_it_took_before_is_no_more_than_its_share_of_the_time_since(share, first, steps) -> None:
    clock = Clock()
    pace, since, expected = Pace(share, first, clock), 0.0, first
    for waited, needed in steps:
        clock.time += waited
        if pace.is_due:
            assert expected <= share * (clock.time - since + expected) * (1 + 1e-9)
            with pace.work():
                clock.time += needed
            since, expected = clock.time, needed
        else:
            assert expected > share * (clock.time - since + expected) * (1 - 1e-9)


def test_at_a_share_of_one_it_is_always_due_and_at_a_twentieth_after_nineteen_times_what_it_took() -> None:
    clock = Clock()
    always, seldom = Pace(1.0, 5.0, clock), Pace(0.05, clock=clock)
    for pace in (always, seldom):
        assert pace.is_due
        with pace.work():
            clock.time += 2.0
    clock.time = 4.0 + 37.9
    assert always.is_due and not seldom.is_due
    clock.time = 4.0 + 38.1
    assert seldom.is_due
    seldom.start()
    assert not seldom.is_due
