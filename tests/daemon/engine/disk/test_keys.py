"""Keys tell spaces and tokens apart, and know nothing of cuts."""

from __future__ import annotations

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.daemon.engine.disk.made import IDENTITY, SPACE, tokens

from sessiond.daemon.engine.disk.keys import (
    LEAST,
    MAX_FIELD_BYTES,
    MAX_FIELDS,
    STEP,
    Chain,
    next_cut,
    pack,
    pack_fields,
    space,
    unpack,
    unpack_fields,
)

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_TOKENS = st.lists(st.integers(0, 2**32 - 1), max_size=600)


@given(st.dictionaries(_TEXT, _TEXT, max_size=8))
def test_an_identity_comes_back_from_its_bytes(identity: dict[str, str]) -> None:
    assert unpack_fields(pack_fields(identity)) == identity
    assert pack_fields(dict(reversed(identity.items()))) == pack_fields(identity)


@given(st.dictionaries(_TEXT, _TEXT, min_size=1, max_size=4), st.data())
def test_other_bytes_are_no_identity_or_another_one(identity: dict[str, str], data: st.DataObject) -> None:
    packed = bytearray(pack_fields(identity))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ValueError):
        assert unpack_fields(bytes(packed)) != identity
    for cut in range(len(packed)):
        with pytest.raises(ValueError, match="identity"):
            unpack_fields(pack_fields(identity)[:cut])


@pytest.mark.parametrize(
    "identity",
    [
        {"a": "x" * (MAX_FIELD_BYTES + 1)},
        {"x" * (MAX_FIELD_BYTES + 1): "a"},
        {str(i): "" for i in range(MAX_FIELDS + 1)},
        {"a": "\ud800"},
    ],
)
def test_an_identity_has_bounds(identity: dict[str, str]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the reason of the last one is Python's own
        pack_fields(identity)


def test_every_part_of_a_space_changes_every_key() -> None:
    others = [
        space(IDENTITY, "/home/a/project", "1001"),
        space(IDENTITY, "/home/a/project1", "000"),
        space(IDENTITY, "", "/home/a/project1000"),
        space(IDENTITY, "/home/a/projec", "t1000"),
        space({**IDENTITY, "add_bos": "False"}, "/home/a/project", "1000"),
        space({**IDENTITY, "x": ""}, "/home/a/project", "1000"),
        *(
            space({k: v for k, v in IDENTITY.items() if k != name}, "/home/a/project", "1000")
            for name in IDENTITY
        ),
    ]
    for position in (0, 1, 50):
        keys = {Chain(each, tokens(50)).key(position) for each in [SPACE, *others]}
        assert len(keys) == 1 + len(others)


@given(_TOKENS, st.lists(st.integers(0, 600), max_size=6))
def test_a_key_is_of_all_tokens_before_it_and_of_nothing_else(run: list[int], positions: list[int]) -> None:
    chain = Chain(SPACE, run)
    for position in [min(each, len(run)) for each in positions]:
        assert chain.key(position) == hashlib.sha256(SPACE.salt + pack(run[:position])).digest()
        assert chain.key(position) == Chain(SPACE, run[:position]).key(position)


@given(_TOKENS)
def test_tokens_come_back_from_their_bytes(run: list[int]) -> None:
    assert unpack(pack(run)) == run


@pytest.mark.parametrize("bad", [-1, 2**32])
def test_what_is_no_token_is_refused(bad: int) -> None:
    with pytest.raises(ValueError, match="not tokens"):
        Chain(SPACE, [1, bad])


@given(st.integers(0, 1 << 20))
def test_cuts_are_fixed_and_leave_no_crumbs(start: int) -> None:
    cut = next_cut(start)
    assert cut % STEP == 0 and LEAST <= cut - start < STEP + LEAST
