"""One budget for the folders of all engines: what those left that do not run goes as ours does, and those that run share it."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daemon.engine.disk.made import ROOMY, Place, tokens

from sessiond.adapters.base import ModelSettings
from sessiond.daemon.engine.disk import others
from sessiond.daemon.engine.disk.folder import Folder, Unusable, entries_size, is_locked
from sessiond.daemon.engine.disk.others import EMPTY_S, Others
from sessiond.daemon.engine.disk.sayings import Sayings
from sessiond.daemon.engine.engine import Tiers
from sessiond.daemon.engine.engine_key import EngineKey
from sessiond.daemon.engine.pool import EnginePool

_A, _B, _C = ("a" * 32, "b" * 32, "c" * 32)
_COUNT = 100
"""Tokens of an entry in these tests: all have one size."""


@pytest.fixture(autouse=True)
def _always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """However little time has passed."""
    monkeypatch.setattr(others, "LOOK_S", 0.0)


@pytest.fixture(scope="module")
def size(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Bytes of an entry's file."""
    place = Place(tmp_path_factory.mktemp("measured"))
    place.keep(tokens(_COUNT, 99))
    place.store.close()
    return place.files()[0].stat().st_size


def _keep(place: Place, *seeds: int) -> None:
    for seed in seeds:
        assert place.keep(tokens(_COUNT, seed)) == [True]


def _held(path: Path, *seeds: int) -> list[int]:
    """Which of these entries are on the disk, as the engine of that folder finds them; it has ended by then."""
    place = Place(path, ROOMY)
    try:
        return [seed for seed in seeds if place.back(tokens(_COUNT, seed))]
    finally:
        place.store.close()


def _bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in root.glob("*/entries/*"))


def test_what_an_engine_left_goes_before_what_is_younger(tmp_path: Path, size: int) -> None:
    first = Place(tmp_path / _A)
    _keep(first, 0, 1, 2)
    first.back(tokens(_COUNT, 0))
    first.store.close()
    second = Place(tmp_path / _B, 4 * size + size // 2)
    _keep(second, 3, 4, 5)
    assert second.store.counts.evicted == 2
    second.store.close()
    assert _held(tmp_path / _A, 0, 1, 2) == [0], "that one was used last"
    assert _held(tmp_path / _B, 3, 4, 5) == [3, 4, 5]


def test_what_is_ours_goes_before_what_others_left_later(tmp_path: Path, size: int) -> None:
    ours = Place(tmp_path / _A)
    _keep(ours, 0, 1)
    ours.store.close()
    other = Place(tmp_path / _B)
    _keep(other, 2, 3)
    other.store.close()
    ours = Place(tmp_path / _A, 4 * size + size // 2)
    _keep(ours, 4)
    ours.store.close()
    assert (_held(tmp_path / _A, 0, 1, 4), _held(tmp_path / _B, 2, 3)) == ([1, 4], [2, 3])


@pytest.mark.parametrize("index", ["there", "lost"])
def test_a_smaller_budget_counts_for_all_folders_at_the_next_start(
    tmp_path: Path, size: int, index: str
) -> None:
    for seed, name in enumerate([_A, _B, _A, _C, _B]):
        place = Place(tmp_path / name)
        before = place.files()
        _keep(place, seed)
        place.store.close()
        if index == "lost":
            [written] = set(place.files()) - set(before)
            os.utime(written, (seed, seed))
            (tmp_path / name / "index.db").unlink()
    Place(tmp_path / _C, 2 * size).store.close()
    found = [_held(tmp_path / name, *range(5)) for name in (_A, _B, _C)]
    assert found == [[], [4], [3]]


@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from([_A, _B, _C]), st.integers(0, 5)), max_size=12),
)
@settings(deadline=None, max_examples=25)
def test_together_they_stay_within_the_budget_and_the_youngest_stay(
    tmp_path_factory: pytest.TempPathFactory, budget: int, uses: list[tuple[str, int]]
) -> None:
    """One engine after the other: each use is of an entry that is there, or writes it."""
    root, size = tmp_path_factory.mktemp("kv"), 0
    limit, young = 0, list[tuple[str, int]]()
    for name, seed in uses:
        place = Place(root / name, limit or ROOMY)
        run = tokens(_COUNT, seed)
        if not place.back(run):
            assert place.keep(run) == [True]
        place.store.close()
        size = size or _bytes(root)
        limit = limit or budget * size + size // 2
        assert _bytes(root) <= limit
        young = [(name, seed), *(each for each in young if each != (name, seed))][:budget]
        there = sorted(path.parent.parent.name for path in root.glob("*/entries/*"))
        assert there == sorted(each for each, _ in young)
    for name, seed in reversed(young):
        assert _held(root / name, seed) == [seed]


def test_engines_that_run_share_and_touch_nothing_of_each_other(tmp_path: Path, size: int) -> None:
    limit = 4 * size + size // 2
    first = Place(tmp_path / _A, limit)
    _keep(first, 0, 1, 2, 3)
    second = Place(tmp_path / _B, limit)
    _keep(second, 10, 11)  # its even part, whatever the other one has
    assert second.keep(tokens(_COUNT, 12)) == [True] and len(second.files()) == 2
    assert len(first.files()) == 4
    first.store.tidy()
    assert [seed for seed in range(4) if first.back(tokens(_COUNT, seed))] == [2, 3]
    assert second.back(tokens(_COUNT, 11)) == second.back(tokens(_COUNT, 12)) == _COUNT
    assert _bytes(tmp_path) <= limit
    second.store.close()
    _keep(first, 20, 21, 22, 23)
    assert _bytes(tmp_path) <= limit
    assert (len(first.files()), len(second.files())) == (4, 0), "what it left goes too"
    first.store.close()


def test_one_that_has_little_leaves_the_rest_to_the_other(tmp_path: Path, size: int) -> None:
    limit = 4 * size + size // 2
    first, second = Place(tmp_path / _A, limit), Place(tmp_path / _B, limit)
    _keep(second, 9)
    _keep(first, 0, 1, 2)
    first.store.tidy()
    assert [len(place.files()) for place in (first, second)] == [3, 1]


@pytest.mark.parametrize("name", ["tier", "A" * 32, "a" * 31, "0" * 33, "index.db"])
def test_no_other_folder_counts_or_is_touched(tmp_path: Path, size: int, name: str) -> None:
    other = Place(tmp_path / name)
    _keep(other, 0, 1)
    other.store.close()
    ours = Place(tmp_path / _A, size)
    _keep(ours, 2)
    assert len(other.files()) == 2
    ours.store.close()
    Place(tmp_path / name, size).store.close()
    assert len(ours.files()) == 1


@pytest.mark.parametrize("how", ["link", "no lock", "writable", "entries elsewhere", "lock elsewhere"])
def test_a_folder_that_is_not_an_engines_is_left_alone(tmp_path: Path, size: int, how: str) -> None:
    other, elsewhere = Place(tmp_path / _A), tmp_path / "elsewhere"
    _keep(other, 0, 1)
    other.store.close()
    match how:
        case "link":
            (tmp_path / _A).rename(elsewhere)
            (tmp_path / _A).symlink_to(elsewhere)
        case "no lock":
            (tmp_path / _A / "lock").unlink()
        case "writable":
            (tmp_path / _A / "entries").chmod(0o777)
        case "entries elsewhere":
            (tmp_path / _A / "entries").rename(elsewhere)
            (tmp_path / _A / "entries").symlink_to(elsewhere)
        case _:
            (tmp_path / _A / "lock").unlink()
            (tmp_path / _A / "lock").symlink_to(elsewhere)
    ours = Place(tmp_path / _B, 2 * size)
    _keep(ours, 2, 3)
    assert len(other.files()) == 2 and ours.back(tokens(_COUNT, 3)) == _COUNT
    assert not (elsewhere.is_file())


def test_no_more_folders_are_held_at_once_than_may_be(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others come next: those that were written to first are evicted from first."""
    monkeypatch.setattr(others, "MAX_HELD", 2)
    names = [f"{number:032x}" for number in range(5)]
    for number, name in enumerate(names):
        place = Place(tmp_path / name)
        _keep(place, number)
        place.store.close()
        os.utime(place.path / "entries", (number, number))
    ours = Place(tmp_path / _A, 5 * size + size // 2)
    _keep(ours, 10, 11)
    assert [path.parent.parent.name for path in sorted(tmp_path.glob("0*/entries/*"))] == names[2:]
    _keep(ours, 12, 13)
    assert _bytes(tmp_path) <= 5.5 * size and len(ours.files()) == 4


def test_what_waits_to_be_held_is_come_to(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where what is held now is not enough; and ours, which are younger, do not go for it."""
    monkeypatch.setattr(others, "MAX_HELD", 1)
    for number in range(5):
        place = Place(tmp_path / f"{number:032x}")
        _keep(place, number)
        place.store.close()
    ours = Place(tmp_path / _A)
    _keep(ours, 10)
    ours.store.close()
    ours = Place(tmp_path / _A, 6 * size + size // 2)
    ours.store.room._limit = 2 * size + size // 2
    assert any(ours.keep(tokens(_COUNT, 11)) == [True] for _ in range(5))
    assert ours.back(tokens(_COUNT, 10)) == ours.back(tokens(_COUNT, 11)) == _COUNT
    assert _bytes(tmp_path) <= 2.5 * size


def test_what_cannot_be_opened_takes_no_room(tmp_path: Path, size: int) -> None:
    """It can be measured, but nothing of it can be evicted: else all of ours would go for it, and nothing be kept again."""
    other = Place(tmp_path / _A)
    _keep(other, 0, 1, 2, 3)
    other.store.close()
    (tmp_path / _A / "new").rmdir()
    (tmp_path / _A / "new").symlink_to(tmp_path)
    ours = Place(tmp_path / _B, 2 * size + size // 2)
    _keep(ours, 10, 11)
    ours.store.close()
    assert _held(tmp_path / _B, 10, 11) == [10, 11]
    ours = Place(tmp_path / _B, 2 * size + size // 2)
    assert len(ours.files()) == 2 and len(other.files()) == 4


def test_files_that_are_not_entries_stay(tmp_path: Path, size: int) -> None:
    other = Place(tmp_path / _A)
    _keep(other, 0, 1)
    other.store.close()
    mine = tmp_path / _A / "entries" / "notes"
    mine.write_text("mine")
    _keep(Place(tmp_path / _B, size + size // 2), 2)
    assert other.files() == [mine]


def _grow_old(path: Path) -> None:
    then = path.stat().st_mtime - EMPTY_S - 1
    os.utime(path / "entries", (then, then))


def _emptied(path: Path) -> None:
    place = Place(path)
    _keep(place, 0)
    place.store.set_aside(place.files()[0].name, "for the test")
    place.store.begin_use("0" * 40 + "-0")
    place.store.close()


def test_a_folder_with_nothing_left_goes_after_a_while(tmp_path: Path) -> None:
    _emptied(tmp_path / _A)
    ours = Place(tmp_path / _B)
    assert (tmp_path / _A).exists(), "its engine may just be about to write"
    _grow_old(tmp_path / _A)
    ours.store.tidy()
    assert [path.name for path in tmp_path.iterdir()] == [_B]
    ours.store.tidy()
    assert _held(tmp_path / _A) == [], "and it can be made again"


def test_a_folder_with_nothing_left_stays_while_its_engine_runs(tmp_path: Path) -> None:
    other, ours = Place(tmp_path / _A), Place(tmp_path / _B)
    _grow_old(tmp_path / _A)
    ours.store.tidy()
    _keep(other, 0)


def test_what_is_not_ours_keeps_its_folder(tmp_path: Path) -> None:
    _emptied(tmp_path / _A)
    (tmp_path / _A / "notes").write_text("mine")
    _grow_old(tmp_path / _A)
    Place(tmp_path / _B).store.tidy()
    assert [path.name for path in (tmp_path / _A).iterdir()] == ["notes"]


def test_who_waited_for_a_folder_that_was_removed_does_not_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the moment in which it opened the lock and that in which it gets it."""
    Place(tmp_path / _A).store.close()
    lock = fcntl.flock

    def removed(file: int, how: int) -> None:
        if stat.S_ISREG(os.fstat(file).st_mode):
            shutil.rmtree(tmp_path / _A)
        lock(file, how)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", removed)
        with pytest.raises(Unusable, match="just removed"):
            Folder(tmp_path / _A, 0.0)
    Folder(tmp_path / _A, 0.0).close()


def test_the_folders_that_engines_are_given_share(tmp_path: Path) -> None:
    pool = EnginePool(lambda _: None, lambda *_: None, tiers=Tiers(0, 1, tmp_path))
    keys = [EngineKey("a model", ModelSettings()), EngineKey("a model", ModelSettings(use_mmap=False))]
    folders = {pool._tiers_of(key).folder for key in keys}
    assert len(folders) == 2
    assert all(Others(path, Sayings(print))._shared for path in folders if path is not None)


def test_a_folder_is_locked_while_it_is_used(tmp_path: Path) -> None:
    place = Place(tmp_path / _A)
    _keep(place, 0)
    assert is_locked(tmp_path / _A)
    assert entries_size(tmp_path / _A) == place.files()[0].stat().st_size
    place.store.close()
    assert not is_locked(tmp_path / _A)
