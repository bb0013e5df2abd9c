"""What a grammar allows of a vocabulary, and how an answer is kept within it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest

from sessiond.adapters.base import SettingsError
from sessiond.adapters.base.grammar import Automata, Automaton, Guard, Pieces

_END = 9
_VOCABULARY = [b"", b"a", b"ab", b"b", b"\xc3", b"\xa4", "ä".encode(), b"aba", b"\xff\xff", b"</s>", b"ab"]
_PIECES = Pieces(_VOCABULARY, {_END})
_GRAMMARS = (
    'root ::= "a"*',
    'root ::= ("ab" | "ä")+',
    'root ::= [^b]* "b"',
    'root ::= "aba"',
    "root ::= .",
    'root ::= ""',
    'root ::= "x"',
)


@pytest.mark.parametrize("grammar", _GRAMMARS)
def test_the_allowed_tokens_are_those_that_are_allowed_one_by_one(grammar: str) -> None:
    automaton = Automaton(grammar)
    states = [automaton.start]
    for _ in range(3):
        for state in states:
            one_by_one = [
                token
                for token in range(len(_VOCABULARY))
                if (state.may_end if token == _END else _PIECES.after(automaton, state, token) is not None)
            ]
            assert sorted(_PIECES.allowed(automaton, state)) == one_by_one
        after = [
            _PIECES.after(automaton, state, token) for state in states for token in range(len(_VOCABULARY))
        ]
        states = [state for state in after if state is not None]


@pytest.mark.parametrize("seed", range(20))
def test_the_same_for_random_vocabularies(seed: int) -> None:
    random = Random(seed)
    pieces = [bytes(random.choices(b"abc\xff\xc3\xa4", k=random.randint(0, 4))) for _ in range(200)]
    vocabulary = Pieces(pieces, {0})
    automaton = Automaton(random.choice(_GRAMMARS))
    state = automaton.start
    for _ in range(4):
        allowed = vocabulary.allowed(automaton, state)
        found = [t for t in range(1, 200) if vocabulary.after(automaton, state, t) is not None]
        assert sorted(allowed) == ([0] if state.may_end else []) + found
        if not found:
            break
        after = vocabulary.after(automaton, state, random.choice(found))
        assert after is not None
        state = after


def _drawn(guard: Guard, wished: Sequence[int]) -> int:
    """A model that wants these tokens, in this order."""

    def draw(out: Sequence[int], only: Sequence[int] | None) -> int:
        return next(token for token in wished if token not in out and (only is None or token in only))

    return guard.choose(draw)


def test_the_likeliest_allowed_token_comes_whether_it_is_found_soon_or_late() -> None:
    for late in (1, 11):
        vocabulary = Pieces([b"x"] * late + [b"a", b"b"], ())
        guard = Guard(Automaton("root ::= [ab]"), vocabulary)
        assert _drawn(guard, range(late + 2)) == late
        assert guard.ended


def test_an_end_token_comes_where_the_grammar_may_end_and_only_there() -> None:
    guard = Guard(Automaton('root ::= "a" "b"?'), _PIECES)
    assert [_drawn(guard, (_END, 1, 3)) for _ in range(2)] == [1, _END]


def test_tokens_without_bytes_never_come() -> None:
    guard = Guard(Automaton('root ::= "a"*'), _PIECES)
    assert _drawn(guard, (0, 1)) == 1


def test_a_vocabulary_that_cannot_say_it_is_an_error_and_not_another_text() -> None:
    guard = Guard(Automaton('root ::= "x"'), _PIECES)
    with pytest.raises(SettingsError) as caught:
        _drawn(guard, range(len(_VOCABULARY)))
    assert caught.value.setting == "grammar"


def test_shares_are_those_among_the_allowed_tokens() -> None:
    random = Random(3)
    weights = [8, 4, 2, 1, 1]
    vocabulary = Pieces([b"x", b"a", b"y", b"b", b"c"], ())
    automaton = Automaton("root ::= [abc]")

    def draw(out: Sequence[int], only: Sequence[int] | None) -> int:
        left = [token for token in (range(5) if only is None else only) if token not in out]
        return random.choices(left, [weights[token] for token in left])[0]

    counts = Counter(Guard(automaton, vocabulary).choose(draw) for _ in range(6000))
    assert set(counts) == {1, 3, 4}
    assert abs(counts[1] / 6000 - 4 / 6) < 0.03
    assert abs(counts[3] / 6000 - 1 / 6) < 0.03


def test_a_machine_is_kept_for_the_next_answer_and_given_up_for_others() -> None:
    automata = Automata()
    first = automata.of('root ::= "a"')
    assert automata.of('root ::= "a"') is first
    for number in range(20):
        automata.of(f'root ::= "{number}"')
    assert automata.of('root ::= "a"') is not first


def test_a_grammar_that_is_none_is_a_setting_that_is_wrong() -> None:
    with pytest.raises(SettingsError) as caught:
        Automata().of("root")
    assert caught.value.setting == "grammar"
