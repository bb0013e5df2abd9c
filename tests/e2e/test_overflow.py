"""What would not fit is refused before anything changes."""

from __future__ import annotations

import pytest
from tests.e2e.turns import text_of

from sessiond.client import ContextOverflow, Session
from sessiond.v1 import session_service_pb2

NUM_CTX = 2048


@pytest.fixture
def settled(session: Session) -> Session:
    """A session with a prefix and a suffix."""
    session.ensure_prefix("x" * 100)
    session.prefill_suffix("y" * 20)
    return session


def test_a_suffix_that_overflows_leaves_the_session_as_it_was(settled: Session) -> None:
    before = settled.explain()
    with pytest.raises(ContextOverflow) as caught:
        settled.prefill_suffix("z" * 2000)
    assert caught.value.metadata() == {
        "stage": "suffix",
        "resident_tokens": "120",
        "additional_tokens": "2000",
        "num_ctx": "2048",
    }
    assert settled.explain() == before


def test_a_suffix_that_fills_the_window_to_the_last_token_fits(settled: Session) -> None:
    status = settled.prefill_suffix("z" * (NUM_CTX - 120)).status
    assert (status.resident_tokens, status.available_tokens) == (NUM_CTX, 0)


def test_a_prefix_that_overflows_leaves_the_session_as_it_was(settled: Session) -> None:
    before = settled.explain()
    with pytest.raises(ContextOverflow) as caught:
        settled.ensure_prefix("z" * (NUM_CTX + 1))
    assert caught.value.stage == "prefix"
    assert (caught.value.additional_tokens, caught.value.num_ctx) == (NUM_CTX + 1, NUM_CTX)
    assert settled.explain() == before


def test_a_decode_that_overflows_leaves_the_session_as_it_was(settled: Session) -> None:
    before = settled.explain()
    with pytest.raises(ContextOverflow) as caught:
        text_of(settled.decode(max_tokens=NUM_CTX - 120 + 1))
    assert caught.value.stage == "decode"
    assert (caught.value.resident_tokens, caught.value.additional_tokens) == (120, NUM_CTX - 120 + 1)
    assert settled.explain() == before


def test_a_decode_in_a_full_window_is_refused(session: Session) -> None:
    session.ensure_prefix("x" * NUM_CTX)
    before = session.explain()
    with pytest.raises(ContextOverflow):
        text_of(session.decode())
    assert session.explain() == before


@pytest.mark.parametrize("part", ["prefix", "suffix", "decode"])
def test_a_complete_that_overflows_in_any_part_leaves_the_session_as_it_was(
    settled: Session, part: str
) -> None:
    before = settled.explain()
    long = "z" * (NUM_CTX + 1)
    with pytest.raises(ContextOverflow) as caught:
        _drain(settled, part, long)
    assert caught.value.stage == part
    assert settled.explain() == before


def _drain(session: Session, part: str, long: str) -> list[session_service_pb2.CompleteResponse]:
    return list(
        session.complete(
            long if part == "suffix" else "yy",
            prefix=long if part == "prefix" else "xz",
            max_tokens=NUM_CTX if part == "decode" else 1,
        )
    )
