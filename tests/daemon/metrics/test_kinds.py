"""Every status of a prefix has one kind, by where its KV came from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.daemon.metrics.kinds import KINDS, kind_of
from sessiond.v1 import context_pb2

_COUNT = st.integers(0, 3)


def _status(reused: int, restored: int, prefilled: int, source: str = "COUNTED") -> context_pb2.PrefixStatus:
    return context_pb2.PrefixStatus(
        reused_tokens=reused,
        restored_tokens=restored,
        prefilled_tokens=prefilled,
        prefix_tokens=reused + restored + prefilled,
        reuse_source=context_pb2.ReuseSource.Value(f"REUSE_SOURCE_{source}"),
    )


@pytest.mark.parametrize(
    ("counts", "kind"),
    [((0, 0, 9), "cold"), ((9, 0, 0), "warm"), ((0, 9, 0), "restored"), ((5, 4, 0), "restored"),
     ((5, 0, 4), "edited"), ((0, 5, 4), "edited"), ((3, 3, 3), "edited"), ((0, 0, 0), "warm")],
)  # fmt: skip
def test_kinds(counts: tuple[int, int, int], kind: str) -> None:
    assert kind_of(_status(*counts)) == kind
    assert kind_of(_status(*counts, "REPORTED")) == kind
    assert kind_of(_status(*counts, "UNKNOWN")) == "unknown"


@given(_COUNT, _COUNT, _COUNT)
def test_only_a_turn_that_computed_nothing_of_its_prefix_is_called_warm_or_restored(
    reused: int, restored: int, prefilled: int
) -> None:
    kind = kind_of(_status(reused, restored, prefilled))
    assert kind in KINDS
    assert (kind in {"warm", "restored"}) == (prefilled == 0)
    assert (kind == "restored") == (restored > 0 and prefilled == 0)


def test_no_prefix_is_a_kind_too() -> None:
    assert kind_of(None) == "continued"
