"""As many tokens are guessed as are worth it: many in a copy, none where guesses are wrong, and some again later."""

from __future__ import annotations

import itertools
import random

import pytest

from sessiond.daemon.engine.guesses import MOST, Guesses, worth
from sessiond.daemon.engine.step_cost import StepCost


def _line(one: float, more: float) -> StepCost:
    """A cost that was seen: of one token, and of each further one."""
    cost = StepCost()
    for tokens in (1, 2, 4, 8, 16) * 8:
        cost.took(tokens, one + more * (tokens - 1))
    return cost


def test_a_line_is_seen() -> None:
    cost = _line(0.020, 0.002)
    for tokens in (1, 3, 9, 16):
        assert cost.seconds(tokens) == pytest.approx(0.020 + 0.002 * (tokens - 1), rel=0.01)


def test_single_steps_alone_say_nothing_of_larger_ones_and_forget_nothing() -> None:
    fresh, seen = StepCost(), _line(0.020, 0.010)
    assert fresh.seconds(4) / fresh.seconds(1) == pytest.approx(1.81)
    for cost in (fresh, seen):
        for _ in range(200):
            cost.took(1, 0.010)
    assert fresh.seconds(4) / fresh.seconds(1) == pytest.approx(1.81)
    assert seen.seconds(4) / seen.seconds(1) == pytest.approx(2.5, rel=0.05)
    assert seen.seconds(1) == pytest.approx(0.010, rel=0.05)


def test_bulk_work_and_nonsense_are_not_counted() -> None:
    cost = _line(0.020, 0.002)
    for tokens, seconds in ((500, 1.0), (0, 1.0), (4, 0.0), (4, -1.0)):
        cost.took(tokens, seconds)
    assert cost.seconds(4) == pytest.approx(0.026, rel=0.01)


def test_sure_guesses_are_all_worth_it_and_hopeless_ones_are_not() -> None:
    cost = _line(0.020, 0.002)
    assert worth([1.0] * 12, cost, others=0) == 12
    assert worth([0.01] * 12, cost, others=0) == 0
    assert worth([0.99, 0.99, 0.01, 0.99], cost, others=0) == 2


def test_where_a_further_token_costs_a_whole_step_nothing_is_guessed() -> None:
    assert worth([0.9] * 12, _line(0.020, 0.020), others=0) == 0


@pytest.mark.parametrize("others", [0, 3, 7])
def test_as_many_as_make_the_most_tokens_a_second(others: int) -> None:
    cost, chances = _line(0.020, 0.003), [0.8] * MOST

    def speed(count: int) -> float:
        return (others + sum(0.8**i for i in range(count + 1))) / cost.seconds(others + 1 + count)

    best = max(range(MOST + 1), key=speed)
    assert worth(chances, cost, others) in {best, 0}
    assert speed(worth(chances, cost, others)) >= speed(0)


def test_a_copy_is_guessed_far_ahead_and_other_text_is_not() -> None:
    rng = random.Random(1)
    text = [rng.randrange(1000) for _ in range(300)]
    cost, guesses = _line(0.020, 0.002), Guesses([*text, 5000])
    for token in text[:40]:
        guesses.heard(token)
    assert guesses.next(100, cost, 0) == text[40 : 40 + MOST]
    assert guesses.next(3, cost, 0) == text[40:43]
    # Pairs of tokens that stood there come again and again, and never go on as they did.
    misled = Guesses(list(itertools.chain.from_iterable((1, 2, token) for token in text)))
    for token in range(2000, 2040):
        for each in (1, 2, token):
            misled.heard(each)
    misled.heard(1)
    misled.heard(2)
    assert misled.next(100, cost, 0) == []


def test_guessing_begins_again_where_guesses_come_true() -> None:
    rng = random.Random(2)
    text = [rng.randrange(1000) for _ in range(300)]
    guesses, cost = (
        Guesses(list(itertools.chain.from_iterable((1, 2, token) for token in text))),
        _line(20, 2),
    )
    for token in range(2000, 2040):
        for each in (1, 2, token):
            guesses.heard(each)
    for token in itertools.chain.from_iterable((1, 2, token) for token in text[:30]):
        guesses.heard(token)
    assert guesses.next(100, cost, 0)
