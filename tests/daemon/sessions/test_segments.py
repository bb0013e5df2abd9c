"""What segments may be that come from elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sessiond.daemon.sessions.segments import KINDS, MOST_BYTES, faults
from sessiond.daemon.workspace.segment import Segment

_SOUND = Segment("a", "file", "text", "b/..c/a.py", stable=False, cache_class="volatile")


def test_what_a_workspace_and_a_client_give_is_sound() -> None:
    longest: dict[str, Any] = {name: "é" * (most // 2) for name, most in MOST_BYTES.items()}
    given = [replace(_SOUND, id=kind, kind=kind) for kind in KINDS]
    assert list(faults([*given, replace(_SOUND, **longest), Segment("empty", "text", "")])) == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": ""}, "id"),
        ({"id": "frame"}, "id"),
        ({"id": "taken"}, "id"),
        ({"kind": "frame"}, "kind"),
        ({"kind": ""}, "kind"),
        ({"path": "/a"}, "path"),
        ({"path": ".."}, "path"),
        ({"path": "a/../b"}, "path"),
        *(({name: "a\0"}, name) for name in MOST_BYTES),
        *(({name: "é" * (most // 2) + "a"}, name) for name, most in MOST_BYTES.items()),
    ],
)
def test_what_is_not_is_named(change: dict[str, Any], field: str) -> None:
    told = list(faults([replace(_SOUND, id="taken"), replace(_SOUND, **change)]))
    assert [(index, name) for index, name, _ in told] == [(1, field)]


def test_an_id_may_have_a_bound_of_its_own() -> None:
    given = [replace(_SOUND, id="é" * 2)]
    assert [list(faults(given, most)) for most in (4, 3)] == [[], [(0, "id", "is longer than 3 bytes")]]
