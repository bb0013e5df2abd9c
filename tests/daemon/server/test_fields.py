"""Checks of fields: every violation is named."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.daemon.server.fields import MAX_COUNT, Fields
from sessiond.v1.errors import InvalidInput


def _refused(fields: Fields) -> list[str]:
    try:
        fields.done()
    except InvalidInput as error:
        return [violation.field for violation in error.violations]
    return []


def test_nothing_wrong() -> None:
    fields = Fields()
    assert fields.text("a", "é\n", 3) == "é\n"
    assert fields.count("b", MAX_COUNT) == MAX_COUNT
    assert fields.number("c", 0.5, 0, 1) == 0.5
    assert fields.name("sessions/a-B_9") == "sessions/a-B_9"
    assert fields.absolute("d", "/a b") == Path("/a b")
    assert fields.absolute("e", "") is None
    assert _refused(fields) == []


def test_all_violations_are_told_at_once() -> None:
    fields = Fields()
    fields.text("nul", "a\0b")
    fields.text("long", "é" * 2, 3)
    fields.count("below", -1)
    fields.count("above", MAX_COUNT + 1)
    fields.number("nan", math.nan, 0, 1)
    fields.number("infinite", math.inf, 0, math.inf)
    fields.number("outside", 1.5, 0, 1)
    fields.absolute("relative", "a/b")
    assert fields.absolute("nul path", "/a\0b") is None
    assert _refused(fields) == [
        "nul", "long", "below", "above", "nan", "infinite", "outside", "relative", "nul path",
    ]  # fmt: skip


def test_the_list_is_bounded() -> None:
    fields = Fields()
    for index in range(1000):
        fields.refuse(str(index), "is wrong")
    assert len(_refused(fields)) == 64


@pytest.mark.parametrize(
    "name",
    ["", "sessions/", "sessions/a/b", "session/a", "sessions/" + "a" * 65, "sessions/a\n", "sessions/é"],
)
def test_names_that_are_none(name: str) -> None:
    fields = Fields()
    fields.name(name)
    assert _refused(fields) == ["name"]


@given(st.text(), st.integers(0, 40))
def test_a_text_is_measured_in_bytes(text: str, most: int) -> None:
    fields = Fields()
    fields.text("it", text, most)
    assert bool(_refused(fields)) == ("\0" in text or len(text.encode()) > most)
