"""Texts that are far too large: refused by name, and the daemon's memory comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.e2e.daemon import Daemon
from tests.e2e.turns import answers

from sessiond.client import InvalidInput, Session

HUGE = 100_000_000
SLACK = 200 << 20

ASKS: dict[str, tuple[Callable[[Session, str], Any], str]] = {
    "prefix": (lambda session, text: session.ensure_prefix(text), "prefix.text"),
    "segment": (
        lambda session, text: session.ensure_prefix(segments=[("a", text)]),
        "prefix.segments[0].text",
    ),
    "suffix": (lambda session, text: session.prefill_suffix(text), "suffix.text"),
    "message": (
        lambda session, text: list(session.complete(messages=[("user", text)])),
        "suffix.messages[0].content",
    ),
}


@pytest.mark.parametrize("what", ASKS)
def test_a_text_of_100_megabytes(daemon: Daemon, session: Session, what: str) -> None:
    session.ensure_prefix("xxxx")
    before = session.explain()
    memory = daemon.memory()
    ask, field = ASKS[what]
    for _ in range(3):
        with pytest.raises(InvalidInput) as caught:
            ask(session, "x" * HUGE)
        assert [violation.field for violation in caught.value.violations] == [field]
        assert daemon.client.healthy()
    grown = daemon.memory() - memory
    assert grown < SLACK, f"the daemon kept {grown >> 20} MiB"
    assert session.explain() == before
    answers(session)


def test_a_text_of_100_megabytes_to_tokenize(daemon: Daemon) -> None:
    with pytest.raises(InvalidInput) as caught:
        daemon.client.tokenize("x" * HUGE)
    assert [violation.field for violation in caught.value.violations] == ["text"]
    assert daemon.client.healthy()


def test_a_text_that_is_larger_than_the_window_by_far(session: Session) -> None:
    """Below the limit of a field, and still no prefix."""
    from sessiond.client import ContextOverflow

    with pytest.raises(ContextOverflow) as caught:
        session.ensure_prefix("x" * 1_000_000)
    assert caught.value.additional_tokens == 1_000_000
    answers(session)


def test_a_message_that_is_larger_than_the_daemon_takes(daemon: Daemon, session: Session) -> None:
    with pytest.raises(InvalidInput):
        session.ensure_prefix(segments=[(str(index), "x" * (31 << 20)) for index in range(5)])
    assert daemon.client.healthy()
    answers(session)
