"""What may run and wait at once."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.daemon.server.gate import Gate, Limits
from sessiond.v1.errors import SessionBusy, SessionUnavailable


def test_calls_are_bounded_and_come_back() -> None:
    gate = Gate(Limits(calls=2))
    with gate.call(), contextlib.suppress(ZeroDivisionError), gate.call():
        with pytest.raises(SessionUnavailable, match="2 calls are running"), gate.call():
            pass
        raise ZeroDivisionError
    with gate.call(), gate.call():
        pass


def test_turns_of_one_session_are_bounded() -> None:
    gate = Gate(Limits(waiting_each=1))
    with gate.turn("a"), gate.turn("a"):
        with pytest.raises(SessionBusy) as caught, gate.turn("a"):
            pass
        assert caught.value.name == "a"
        with gate.turn("b"):
            pass


def test_turns_that_wait_are_bounded_over_all_sessions() -> None:
    gate = Gate(Limits(waiting=2, waiting_each=8))
    with gate.turn("a"), gate.turn("b"), gate.turn("a"), gate.turn("b"):
        for name in ("a", "b"):
            with pytest.raises(SessionUnavailable, match="2 turns are waiting"), gate.turn(name):
                pass
        with gate.turn("c"):
            pass  # who waits for nobody is not in the way


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.integers(0, 30))))
def test_whatever_comes_and_goes_the_counts_are_right(steps: list[tuple[bool, str, int]]) -> None:
    gate = Gate(Limits(waiting=3, waiting_each=2))
    inside: list[tuple[str, contextlib.AbstractContextManager[None]]] = []
    for comes, name, which in steps:
        names = [each for each, _ in inside]
        if comes:
            ahead, waiting = names.count(name), len(names) - len(set(names))
            turn = gate.turn(name)
            expected = SessionBusy if ahead > 2 else SessionUnavailable if ahead and waiting >= 3 else None
            if expected is None:
                turn.__enter__()
                inside.append((name, turn))
            else:
                with pytest.raises(expected):
                    turn.__enter__()
        elif inside:
            inside.pop(which % len(inside))[1].__exit__(None, None, None)
    while inside:
        inside.pop()[1].__exit__(None, None, None)
    assert not gate._turns
    assert gate._waiting == 0
