"""Whatever happens to the files: what comes back is right, or it is a miss and a line in the log."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daemon.engine.disk.made import IDENTITY, SPACE, TOKEN_KV, Place, kv, tokens

from sessiond.daemon.engine.disk import store as store_file
from sessiond.daemon.engine.disk.format import encode
from sessiond.daemon.engine.disk.keys import Chain, space

_RUN = tokens(700)


@given(
    st.lists(st.tuples(st.integers(0, 700), st.integers(0, 200), st.integers(0, 2)), min_size=1, max_size=5)
)
@settings(deadline=None, max_examples=15)
def test_what_was_written_comes_back_also_after_a_restart(
    tmp_path_factory: pytest.TempPathFactory, branches: list[tuple[int, int, int]]
) -> None:
    place = Place(tmp_path_factory.mktemp("tier"))
    spaces = [
        SPACE,
        space(IDENTITY, "/home/b", "1000"),
        space({**IDENTITY, "x": "y"}, "/home/a/project", "1000"),
    ]
    all_tokens = [([*_RUN[:at], *tokens(count, at + 1)], spaces[which]) for at, count, which in branches]
    for run, where in all_tokens:
        assert all(place.keep(run, where))
        assert place.keep(run, where) == []
    backs = [place.back(run, where) for run, where in all_tokens]
    assert all(back > len(run) - 16 for back, (run, _) in zip(backs, all_tokens, strict=True))
    place = place.again()
    assert [place.back(run, where) for run, where in all_tokens] == backs
    counts = place.store.counts
    assert (counts.damaged, counts.missed) == (0, 0) and place.said == []


def test_an_entry_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    runs = place.missing(_RUN)
    for _ in range(3):
        assert all(place.store.put(run, kv(SPACE, _RUN, run.start, run.end)) for run in runs)
    counts = place.store.counts
    assert (counts.written, counts.kv_bytes) == (3, 700 * TOKEN_KV)
    assert counts.file_bytes == sum(path.stat().st_size for path in place.files())


def test_an_entry_of_another_identity_under_the_right_name_is_a_miss(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    others = [
        space({**IDENTITY, "model_digest": "n" * 64}, "/home/a/project", "1000"),
        space(IDENTITY, "/home/b/project", "1000"),
    ]
    labels = [found.entry.label for found in place.ahead(_RUN)]
    for label, other in zip(labels, others, strict=False):
        chain = Chain(other, _RUN)
        forged = type(label)(
            other.salt, chain.key(label.start), chain.key(label.end), label.start, label.tokens
        )
        payload = kv(other, _RUN, label.start, label.end)
        (place.path / "entries" / label.name).write_bytes(b"".join(encode(forged, other.fields, payload)))
    # The right salt and the wrong identity: only the fields can tell.
    last = place.path / "entries" / labels[2].name
    last.write_bytes(
        b"".join(encode(labels[2], others[0].fields, kv(SPACE, _RUN, labels[2].start, labels[2].end)))
    )
    assert place.back(_RUN) == 0
    assert place.store.counts.damaged == 3 and place.files() == []
    assert place.keep(_RUN) == [True] * 3 and place.back(_RUN) == 700


def test_the_same_forgeries_are_a_miss_after_a_restart(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    label = place.ahead(_RUN)[2].entry.label
    other = space({**IDENTITY, "model_digest": "n" * 64}, "/home/a/project", "1000")
    forged = b"".join(encode(label, other.fields, kv(SPACE, _RUN, label.start, label.end)))
    (place.path / "entries" / label.name).write_bytes(forged)
    place = place.again()
    assert place.back(_RUN) == 512 and "another identity" in place.said[-1]


@pytest.mark.parametrize("at", range(0, 2400, 97))
def test_a_flipped_byte_on_the_disk_is_a_miss(tmp_path: Path, at: int) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN[:64])
    [path] = place.files()
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 0x10
    path.write_bytes(data)
    if at % 2:
        place = place.again()
    assert place.back(_RUN[:64]) == 0 and not path.exists()
    assert [line for line in place.said if "is removed" in line]
    assert place.keep(_RUN[:64]) == [True] and place.back(_RUN[:64]) == 64


def test_a_file_that_is_gone_is_a_miss_and_is_not_tried_again(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    for path in place.files():
        path.unlink()
    assert place.back(_RUN) == 0 and place.ahead(_RUN) == []
    assert place.keep(_RUN) == [True] * 3 and place.back(_RUN) == 700


# The index.


def _garbage(path: Path) -> None:
    path.write_bytes(os.urandom(9000))


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _torn(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:8192] = os.urandom(4096)
    path.write_bytes(data)


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _other_version(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA user_version = 77")


def _other_table(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript("DROP TABLE entries; CREATE TABLE entries (name TEXT)")


def _odd_rows(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows = connection.execute("SELECT * FROM entries").fetchall()
        connection.execute("DELETE FROM entries")
        first = list(rows[0])
        for column, value in enumerate(["x", "x", None, 1.5, 7, b"", "text", -1, b"abc"]):
            odd = [*first[:column], value, *first[column + 1 :]]
            odd[0] = odd[0] if column == 0 else rows[column % 3][0]
            connection.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", odd)


_SPOILT: list[Callable[[Path], None]] = [
    Path.unlink,
    _garbage,
    _half,
    _torn,
    _link,
    _fifo,
    _folder,
    _other_version,
    _other_table,
    _odd_rows,
]


@pytest.mark.parametrize("spoil", _SPOILT, ids=lambda spoil: spoil.__name__.strip("_"))
def test_the_index_may_be_lost_or_lie(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    place.store.close()
    spoil(place.path / "index.db")
    place = Place(place.path)
    assert [line for line in place.said if "index is made anew" in line] or spoil in {Path.unlink, _odd_rows}
    assert place.back(_RUN) == 700
    assert place.keep([*_RUN, *tokens(100, 1)]) == [True, True]
    place = place.again()
    assert place.back([*_RUN, *tokens(100, 1)]) == 800


def test_rows_of_other_files_do_not_count(tmp_path: Path) -> None:
    """An index that is older than the folder, and one of another folder."""
    place, other = Place(tmp_path / "tier"), Place(tmp_path / "other")
    place.keep(_RUN[:300])
    place.store.close()
    old = (place.path / "index.db").read_bytes()
    place = Place(place.path)
    place.keep(_RUN)
    place.files()[0].unlink()
    other.keep(tokens(700, 1))
    place.store.close()
    other.store.close()
    for index in (old, (other.path / "index.db").read_bytes()):
        (place.path / "index.db").write_bytes(index)
        place = Place(place.path)
        assert 0 < place.back(_RUN) < 700 and place.store.counts.missed == 0
        place.store.close()


def test_a_file_that_is_not_as_its_row_says_is_read_again(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    place.store.close()
    cut, changed = place.files()[:2]
    cut.write_bytes(cut.read_bytes()[:-1])
    changed.write_bytes(b"x" * changed.stat().st_size)
    os.utime(changed, ns=(1, 1))
    place = Place(place.path)
    assert not cut.exists() and not changed.exists() and place.store.counts.damaged == 2
    place.store.close()


def test_the_order_of_use_outlives_a_restart(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    for seed in range(4):
        place.keep(tokens(100, seed))
    place.ahead(tokens(100, 0))
    before = [entry.label.name for entry in place.store.catalogue.oldest()]
    place = place.again()
    assert [entry.label.name for entry in place.store.catalogue.oldest()] == before
    assert before[-1] == place.ahead(tokens(100, 0))[0].entry.label.name


def test_without_an_index_the_files_times_are_the_order(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    for seed in (2, 0, 1):
        place.keep(tokens(100, seed))
        [name] = [found.entry.label.name for found in place.ahead(tokens(100, seed))]
        os.utime(place.path / "entries" / name, ns=(seed, seed))
    os.utime(
        place.files()[0], (1 << 34, 1 << 34)
    )  # far in the future: no number of SQLite's on some file systems
    place.store.close()
    (place.path / "index.db").unlink()
    place = Place(place.path)
    used = [entry.used for entry in place.store.catalogue.oldest()]
    assert used == sorted(used) and used[-1] > 1 << 60
    assert place.keep(tokens(100, 9)) == [True] and place.again().back(tokens(100, 9)) == 100


# Room.


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
    place.store.pinned = frozenset({SPACE.salt})
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
    place.store.pinned = frozenset({SPACE.salt})
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


def test_the_rest_of_the_file_system_is_left_free(tmp_path: Path) -> None:
    told = os.statvfs(tmp_path)
    place = Place(tmp_path / "tier", keep_free=told.f_blocks * told.f_frsize)
    assert place.keep(_RUN) == [False] * 3 and "no room" in place.said[0]


# What fails.


@pytest.fixture
def small(tmp_path: Path) -> Generator[Path, None, None]:
    """A file system of 256 KiB."""
    path = tmp_path / "small"
    path.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", path], check=False).returncode
    ):
        pytest.skip("mounting is not allowed here")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_a_full_disk_is_a_miss(small: Path) -> None:
    place = Place(small / "tier", keep_free=-(1 << 30))  # or it would evict in time
    kept = {seed: place.keep(tokens(256, seed)) for seed in range(40)}
    assert [True] in kept.values() and [False] in kept.values()
    assert any("could not be written: No space left" in line for line in place.said)
    assert list((place.path / "new").iterdir()) == []
    for seed, answer in kept.items():
        assert place.back(tokens(256, seed)) == (256 if answer == [True] else 0)
    # No write is tried for a while; then it is found out that there is room again.
    for path in place.files()[:5]:
        path.unlink()
    assert place.keep(tokens(256, 99)) == [False]
    place.store._paused_until = 0.0
    assert place.keep(tokens(256, 99)) == [True] and place.back(tokens(256, 99)) == 256
    place.store.close()
    place = Place(small / "tier")
    assert place.back(tokens(256, 99)) == 256


def test_a_disk_that_is_nearly_full_shrinks_the_budget(small: Path) -> None:
    place = Place(small / "tier", keep_free=64 << 10)
    for seed in range(40):
        assert place.keep(tokens(256, seed)) == [True] and place.back(tokens(256, seed)) == 256
    told = os.statvfs(small)
    assert told.f_bavail * told.f_frsize > 40 << 10 and place.store.counts.evicted > 10
    assert place.said == []


def test_a_file_that_may_not_grow_is_a_miss(tmp_path: Path) -> None:
    """The kernel's own limit on the size of a file, in a child: it needs no mount."""
    code = """
import sys
from pathlib import Path
from tests.daemon.engine.disk.made import Place, tokens
place = Place(Path(sys.argv[1]))
print(place.keep(tokens(64)), place.keep(tokens(256, 1)), list((place.path / "new").iterdir()))
print(place.back(tokens(64)), place.back(tokens(256, 1)), place.said[-1])
"""
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "tier")],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
    )
    first, second = told.stdout.splitlines()
    assert first == "[True] [False] []"
    assert second.startswith("64 0 disk tier: ") and "File too large" in told.stdout


@pytest.mark.parametrize("what", ["tier", "tier/entries", "tier/new"])
def test_a_folder_that_is_removed_is_a_miss(tmp_path: Path, what: str) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    shutil.rmtree(tmp_path / what)
    assert place.back(_RUN) == (700 if what == "tier/new" else 0)
    more = tokens(100, 1)
    assert place.keep(more) == [False] and place.store.lost and not place.store.writable
    assert place.missing(more) != [] and place.back(more) == 0
    place.store.tidy()
    place = place.again()
    assert place.keep(more) == [True] and place.back(more) == 100


_READ_ONLY = """
import os, sys
from pathlib import Path
from tests.daemon.engine.disk.made import Place, tokens
if not os.geteuid():
    os.setuid(65534)  # root may write everywhere
place = Place(Path(sys.argv[1]))
place.keep(tokens(700))
for name in ("entries", "new"):
    (place.path / name).chmod(0o500)
print(place.keep(tokens(100, 1)), place.back(tokens(700)), place.said[-1])
place.store.close()
"""


def test_a_folder_that_became_read_only_is_read() -> None:
    with tempfile.TemporaryDirectory() as folder:
        if not os.geteuid():
            os.chown(folder, 65534, -1)
        told = subprocess.run(
            [sys.executable, "-c", _READ_ONLY, folder], capture_output=True, text=True, check=False
        )
        assert told.stdout.startswith("[False] 700 ") and "Permission denied" in told.stdout, told.stderr
        for name in ("entries", "new"):
            (Path(folder) / name).chmod(0o700)


# What is set aside.


def test_what_failed_is_set_aside_and_not_written_again(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    bad = place.ahead(_RUN)[1].entry.label.name
    place.store.set_aside(bad, "the backend refused it")
    assert (place.path / "aside" / bad).exists() and place.back(_RUN) == 700 - 256
    assert place.missing(_RUN) == [] and bad in place.said[-1]
    place = place.again()
    assert place.missing(_RUN) == [] and place.back(_RUN) == 700 - 256


def test_what_is_set_aside_is_bounded(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    names = list[str]()
    for seed in range(store_file.ASIDE_MOST + 3):
        place.keep(tokens(32, seed))
        names.append(place.ahead(tokens(32, seed))[0].entry.label.name)
        place.store.set_aside(names[-1], "a test")
    assert sorted(path.name for path in (place.path / "aside").iterdir()) == sorted(names[3:])


_DIE = """
import os, signal, sys
from pathlib import Path
from tests.daemon.engine.disk.made import Place, tokens
place = Place(Path(sys.argv[1]))
found = place.ahead(tokens(700))
if len(found) > 1:
    place.store.begin_use(found[1].entry.label.name)
    if sys.argv[2] != "ill":
        place.store.end_use(found[1].entry.label.name)
    if sys.argv[2] == "both":
        place.store.begin_use(found[1].entry.label.name)
print(sum(each.matched for each in found), flush=True)
os.kill(os.getpid(), signal.SIGSEGV)
"""


def test_what_killed_the_process_twice_is_set_aside(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    place.store.close()

    def die(how: str) -> int:
        told = subprocess.run(
            [sys.executable, "-c", _DIE, place.path, how], stdout=subprocess.PIPE, check=False
        )
        assert told.returncode == -signal.SIGSEGV
        return int(told.stdout)

    # A good use in between clears it of suspicion.
    for how in ("ill", "well", "ill", "both", "ill"):
        assert die(how) == 700
    assert die("ill") == 700 - 256
    assert len(list((place.path / "aside").iterdir())) == 1
    assert Place(place.path).back(_RUN) == 700 - 256


def test_a_file_of_marks_may_hold_anything(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    for content in (b"", os.urandom(10000), b"\1\xff" + b"../../etc/passwd".ljust(62, b"\0"), b"\1" * 4096):
        place.store.close()
        (place.path / "marks").write_bytes(content)
        place = Place(place.path)
        assert place.back(_RUN) == 700


def test_more_in_use_than_there_are_marks_is_no_fault(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    names = [f"{number:040x}-0" for number in range(100)]
    for name in names:
        place.store.begin_use(name)
    for name in names:
        place.store.end_use(name)
    assert (place.path / "marks").read_bytes() == bytes(4096)
