"""What is not there yet answers UNSUPPORTED_FEATURE: nothing is silently ignored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sessiond.client import Client, Session, UnsupportedFeature

ASKS: dict[str, tuple[Callable[[Session], Any], str]] = {
    "fim": (lambda session: session.prefill_suffix(fim=("a", "b")), "fim"),
    "fim in a turn": (lambda session: list(session.complete(fim=("a", "b"))), "fim"),
}


@pytest.mark.parametrize("what", ASKS)
def test_a_gap_is_named_and_changes_nothing(session: Session, what: str) -> None:
    session.ensure_prefix("xxxx")
    before = session.explain()
    ask, feature = ASKS[what]
    with pytest.raises(UnsupportedFeature) as caught:
        ask(session)
    assert caught.value.feature == feature
    assert session.explain() == before


def test_embed(client: Client) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        client.embed(["x"])
    assert (caught.value.feature, caught.value.backend) == ("embed", "scripted-kv")


def test_capabilities_do_not_promise_the_gaps(client: Client) -> None:
    able = client.model().capabilities
    assert able.session and able.fork and able.grammar and able.logprobs
    assert not any((able.embed, able.fim))  # of this model
