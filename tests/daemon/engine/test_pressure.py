"""How short memory is: the rule."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sessiond.daemon.engine.pressure import (
    BELOW,
    EASES,
    FASTEST,
    LATEST_S,
    SOONEST_S,
    Level,
    level_at,
    look_after,
    may_rest,
    missing,
)

RESERVE = 1 << 30
_BYTES = st.integers(0, 8 * RESERVE)
_LEVELS = st.sampled_from(Level)


def test_levels_begin_one_after_the_other() -> None:
    shares = (1.0, 0.74, 0.49, 0.24, 0.0)
    told = [level_at(Level.EASY, int(share * RESERVE), RESERVE) for share in shares]
    assert told == [Level.EASY, Level.TRIM, Level.PARK, Level.REFUSE, Level.REFUSE]


def test_a_level_is_left_only_when_there_is_much_more_than_it_began_at() -> None:
    level = Level.REFUSE
    seen: list[Level] = []
    for percent in range(120):
        level = level_at(level, percent * RESERVE // 100, RESERVE)
        seen.append(level)
    changes = [percent for percent in range(1, 120) if seen[percent] is not seen[percent - 1]]
    assert [seen[percent] for percent in changes] == [Level.PARK, Level.TRIM, Level.EASY]
    for percent, left in zip(changes, (Level.REFUSE, Level.PARK, Level.TRIM), strict=True):
        assert abs(percent - 100 * EASES * BELOW[left]) <= 1


@given(_LEVELS, _BYTES)
def test_looking_twice_changes_nothing(before: Level, available: int) -> None:
    level = level_at(before, available, RESERVE)
    assert level_at(level, available, RESERVE) is level


@given(_LEVELS, _BYTES, _BYTES)
def test_with_more_left_the_level_is_never_higher(before: Level, one: int, two: int) -> None:
    less, more = sorted((one, two))
    assert level_at(before, more, RESERVE) <= level_at(before, less, RESERVE)


@given(_LEVELS, _BYTES)
def test_who_comes_from_a_higher_level_is_never_lower(before: Level, available: int) -> None:
    assert level_at(before, available, RESERVE) >= level_at(Level.EASY, available, RESERVE)


@given(_LEVELS, _BYTES)
def test_what_is_missing_given_back_makes_all_easy(before: Level, available: int) -> None:
    assert level_at(before, available + missing(available, RESERVE), RESERVE) is Level.EASY


@given(_LEVELS, _BYTES)
def test_no_level_can_begin_unseen(before: Level, available: int) -> None:
    level = level_at(before, available, RESERVE)
    pause = look_after(level, available, RESERVE)
    assert SOONEST_S <= pause <= LATEST_S
    if pause > SOONEST_S:
        assert level_at(level, int(available - pause * FASTEST) + 1, RESERVE) <= level + 1


@given(_LEVELS, _BYTES)
def test_nobody_rests_while_little_is_left(level: Level, available: int) -> None:
    rests = may_rest(level, available, RESERVE)
    assert rests == (level is Level.EASY and available > 3 * RESERVE)
