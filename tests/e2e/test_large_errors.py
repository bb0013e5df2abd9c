"""An error may quote what was sent, however long that was: its reason still arrives."""

from __future__ import annotations

import pytest

from sessiond.client import Client, ContextManifest, InvalidInput, ManifestMismatch, Session

HUGE = "x" * (8 << 20)


def test_a_malformed_value_of_megabytes(session: Session) -> None:
    session.ensure_prefix("xx")
    with pytest.raises(InvalidInput) as caught:
        list(session.decode(samplers=[HUGE]))
    assert len(caught.value.message) < 10_000


def test_an_expectation_of_megabytes(session: Session) -> None:
    with pytest.raises(ManifestMismatch):
        session.ensure_prefix("xx", expect=ContextManifest(digest=HUGE))


def test_a_model_of_megabytes(client: Client) -> None:
    for model in (HUGE, "x" * 4000):
        with pytest.raises(InvalidInput):
            client.open_session(model=model)
