"""The longest end of a text that stood in it before is found, and the latest of such places."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sessiond.daemon.engine.recall import LONGEST, SHORTEST, Recall

_TOKENS = st.lists(st.sampled_from([1, 2, 3, 256, 65536, 0x010001]), max_size=60)
"""Some whose bytes look like others', shifted."""


def _naive(tokens: list[int]) -> tuple[int, int]:
    """How many tokens agree at most, and behind which place that is latest; 0 and 0 if too few do."""
    best = (0, 0)
    for at in range(1, len(tokens)):
        length = 0
        while length < min(at, LONGEST) and tokens[at - 1 - length] == tokens[-1 - length]:
            length += 1
        if length >= SHORTEST and length >= best[0]:
            best = (length, at)
    return best


@given(_TOKENS)
def test_the_longest_and_then_the_latest_place_decides(tokens: list[int]) -> None:
    length, at = _naive(tokens)
    recall = Recall(tokens)
    assert recall.length == length
    assert recall.following(5) == (tokens[at : at + 5] if length else [])


@given(_TOKENS, _TOKENS)
def test_what_is_found_is_a_place_where_the_end_stood(tokens: list[int], more: list[int]) -> None:
    recall, text = Recall(tokens), list(tokens)
    for token in more:
        expected = recall.following(1) == [token]
        before = recall.length
        recall.add(token)
        text.append(token)
        if expected:
            assert recall.length == before + 1
        assert len(recall) == len(text)
        if recall.length:
            found, following = text[-recall.length :], recall.following(3)
            places = [at for at in range(len(text)) if text[:at][-recall.length :] == found]
            assert any(text[at : at + 3] == following for at in places)


def test_a_named_text_comes_before_a_later_one() -> None:
    tokens = [1, 2, 3, 9, 1, 2, 4, 8, 1, 2]
    assert Recall(tokens).following(1) == [4]
    assert Recall(tokens, named=[(0, 4)]).following(1) == [3]


def test_a_longer_agreement_comes_before_a_named_text() -> None:
    tokens = [1, 2, 3, 9, 7, 1, 2, 4, 9, 7, 1, 2]
    assert Recall(tokens, named=[(0, 4)]).following(1) == [4]


def test_ranges_that_are_none_are_passed_over() -> None:
    tokens = [1, 2, 3, 9, 1, 2]
    for named in ([(3, 1)], [(-5, 3)], [(4, 100)], [(100, 200)]):
        assert Recall(tokens, named).following(1) == [3]


def test_nothing_is_known_of_a_text_without_repetition() -> None:
    for tokens in ([], [1], [1, 1], list(range(50))):
        assert Recall(tokens).following(4) == []
