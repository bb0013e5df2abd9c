"""Who goes when room is short."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.daemon.engine.disk.made import IDENTITY, SPACE, Place, tokens

from sessiond.daemon.engine.disk import room
from sessiond.daemon.engine.disk.keys import space

_RUN = tokens(700)


def _size(count: int, tmp_path: Path) -> int:
    place = Place(tmp_path / "measured")
    place.keep(tokens(count, 99))
    place.store.close()
    return place.files()[0].stat().st_size


def test_the_least_recently_used_goes_when_room_is_short(tmp_path: Path) -> None:
    size = _size(100, tmp_path)
    place = Place(tmp_path / "tier", size * 3 + size // 2)
    for seed in range(3):
        place.keep(tokens(100, seed))
    place.back(tokens(100, 0))
    place.keep(tokens(100, 3))
    assert [place.back(tokens(100, seed)) for seed in range(4)] == [100, 0, 100, 100]
    assert place.store.counts.evicted == 1 and len(place.files()) == 3
    assert place.store.catalogue.size == sum(path.stat().st_size for path in place.files()) <= size * 3.5


def test_pinned_entries_go_last_and_for_pinned_ones_only(tmp_path: Path) -> None:
    size, other = _size(100, tmp_path), space(IDENTITY, "/home/b", "1000")
    place = Place(tmp_path / "tier", size * 2 + size // 2)
    place.store.room.pinned = frozenset({SPACE.salt})
    place.keep(tokens(100, 0))
    for seed in range(1, 4):
        place.keep(tokens(100, seed), other)
    assert place.back(tokens(100, 0)) == 100 and place.back(tokens(100, 3), other) == 100
    place.keep(tokens(100, 4))
    assert place.keep(tokens(100, 5), other) == [False], "only pinned ones could go for it"
    assert (place.back(tokens(100, 0)), place.back(tokens(100, 4))) == (100, 100)


def test_nothing_goes_where_it_would_not_be_enough(tmp_path: Path) -> None:
    size, other = _size(256, tmp_path), space(IDENTITY, "/home/b", "1000")
    place = Place(tmp_path / "tier", size * 2 - 100)
    place.store.room.pinned = frozenset({SPACE.salt})
    place.keep(tokens(256, 0))
    place.keep(tokens(30, 1), other)
    assert place.keep(tokens(256, 2), other) == [False]
    assert (place.back(tokens(256, 0)), place.back(tokens(30, 1), other)) == (256, 30)


def test_a_way_that_is_too_long_does_not_push_itself_out(tmp_path: Path) -> None:
    size = _size(256, tmp_path)
    place = Place(tmp_path / "tier", size * 2 + size // 2)
    assert place.keep(tokens(256 * 4)) == [True, True, False, False]
    assert place.back(tokens(256 * 4)) == 512 and "no room" in place.said[-1]
    assert not place.store.writable, "what finds no room is not offered again at once"


def test_a_smaller_limit_counts_from_the_start(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    for seed in range(5):
        place.keep(tokens(100, seed))
    size = place.files()[0].stat().st_size
    place = place.again(size * 2 + size // 4)
    assert [place.back(tokens(100, seed)) for seed in range(5)] == [0, 0, 0, 100, 100]
    assert len(place.files()) == 2
    assert Place(tmp_path / "none", 0).keep(tokens(100)) == [False]


def test_what_has_no_room_at_the_start_is_not_even_read(tmp_path: Path) -> None:
    """A folder may hold more than memory."""
    place = Place(tmp_path / "tier")
    for seed in range(5):
        place.keep(tokens(100, seed))
    size = place.files()[0].stat().st_size
    by_age = [place.path / "entries" / entry.label.name for entry in place.store.catalogue.oldest()]
    for age, path in enumerate(by_age):
        path.write_bytes(b"x" * size)
        os.utime(path, (age, age))
    place = place.again(size * 2 + size // 4)
    assert (place.store.counts.evicted, place.store.counts.damaged) == (3, 2)
    assert [line for line in place.said if by_age[0].name in line] == []


def test_tokens_have_a_budget_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files made on purpose have many tokens and next to no KV."""
    monkeypatch.setattr(room, "MAX_TOKEN_BYTES", 4 * 250)
    place = Place(tmp_path / "tier")
    for seed in range(4):
        assert place.keep(tokens(100, seed)) == [True]
    assert place.store.catalogue.token_bytes == 800 and place.store.counts.evicted == 2
    monkeypatch.setattr(room, "MAX_TOKEN_BYTES", 4 * 150)
    for _ in range(2):
        place = place.again()
        assert [place.back(tokens(100, seed)) for seed in range(4)] == [0, 0, 0, 100]
    assert len(place.files()) == 1


def test_what_cannot_be_removed_is_still_found(tmp_path: Path) -> None:
    """In a folder that became read-only, at the limit. In a child: root may write anywhere."""
    code = """
import os, sys
from pathlib import Path
from tests.daemon.engine.disk.made import Place, tokens
if not os.geteuid():
    os.setuid(65534)
place = Place(Path(sys.argv[1]) / "tier", 20_000)
place.keep(tokens(512))
(place.path / "entries").chmod(0o500)
print(place.keep(tokens(256, 1)), place.back(tokens(512)), place.store.counts.evicted, place.store.writable)
print(place.again(10_000).back(tokens(512)))
(place.path / "entries").chmod(0o700)
"""
    with tempfile.TemporaryDirectory() as folder:
        if not os.geteuid():
            os.chown(folder, 65534, -1)
        told = subprocess.run(
            [sys.executable, "-c", code, folder], capture_output=True, text=True, check=False
        )
    assert told.stdout == "[False] 512 0 False\n256\n", told.stderr


def test_the_rest_of_the_file_system_is_left_free(tmp_path: Path) -> None:
    told = os.statvfs(tmp_path)
    place = Place(tmp_path / "tier", keep_free=told.f_blocks * told.f_frsize)
    assert place.keep(_RUN) == [False] * 3 and "no room" in place.said[0]
