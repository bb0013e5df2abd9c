"""What a search for secrets found is remembered by content, and by nothing else."""

from __future__ import annotations

import pytest

from sessiond.daemon.workspace.searched import Searched


def _never() -> str | None:
    raise AssertionError("it was searched already")


def test_a_content_is_searched_once() -> None:
    searched = Searched(10)
    assert searched.found_in(b"one", lambda: "a key") == "a key"
    assert searched.found_in(b"two", lambda: None) is None
    assert searched.found_in(b"one", _never) == "a key"
    assert searched.found_in(b"two", _never) is None


def test_the_oldest_are_forgotten() -> None:
    searched = Searched(2)
    for content in (b"one", b"two", b"one", b"three"):
        searched.found_in(content, lambda: None)
    assert len(searched) == 2
    assert searched.found_in(b"one", _never) is None
    assert searched.found_in(b"two", lambda: "a key") == "a key"


def test_a_search_that_fails_is_not_remembered() -> None:
    searched = Searched(2)
    with pytest.raises(ZeroDivisionError):
        searched.found_in(b"one", lambda: str(1 // 0))
    assert searched.found_in(b"one", lambda: "a key") == "a key"
