"""Whatever happens to the index: what is found is what the files say."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.daemon.engine.disk.made import Place, tokens

from sessiond.daemon.engine.disk.catalogue import Changes
from sessiond.daemon.engine.disk.folder import Filed, Folder
from sessiond.daemon.engine.disk.index import Index
from sessiond.daemon.engine.disk.sayings import Sayings

_RUN = tokens(700)


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


def _endless_view(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(
            """
            DROP TABLE entries;
            CREATE VIEW entries AS WITH RECURSIVE more(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM more)
                SELECT n AS name, n AS size, n AS mtime_ns, n AS used, n AS salt, n AS parent, n AS key,
                    n AS start, n AS tokens FROM more
            """
        )


def _trigger(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TRIGGER gone AFTER INSERT ON entries BEGIN DELETE FROM entries; END")


def _huge_value(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE entries SET tokens = zeroblob(4000000)")


def _folder_for_a_log(path: Path) -> None:
    path.with_name("index.db-wal").mkdir()


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
    _endless_view,
    _trigger,
    _huge_value,
    _folder_for_a_log,
    _odd_rows,
]


@pytest.mark.parametrize("spoil", _SPOILT, ids=lambda spoil: spoil.__name__.strip("_"))
def test_the_index_may_be_lost_or_lie(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    place.store.close()
    spoil(place.path / "index.db")
    place = Place(place.path)
    assert [line for line in place.said if "the index is" in line] or spoil in {Path.unlink, _odd_rows}
    assert place.back(_RUN) == 700
    assert place.keep([*_RUN, *tokens(100, 1)]) == [True, True]
    place = place.again()
    assert place.back([*_RUN, *tokens(100, 1)]) == 800


@pytest.mark.parametrize("link", [os.link, os.symlink])
@pytest.mark.parametrize("name", ["index.db", "index.db-wal", "index.db-journal", "index.db-shm"])
def test_what_the_index_is_a_link_to_stays_as_it_is(
    tmp_path: Path, name: str, link: Callable[[Path, Path], None]
) -> None:
    """As an archive may bring it along."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"do not touch")
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    place.store.close()
    (place.path / name).unlink(missing_ok=True)
    link(precious, place.path / name)
    place = Place(place.path)
    assert place.keep(tokens(100, 1)) == [True] and place.back(_RUN) == 700
    place.store.close()
    assert precious.read_bytes() == b"do not touch"


def test_an_index_is_not_looked_for_where_the_folder_is_no_longer(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "a" / "tier", 0.0)
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "a" / "tier").mkdir(parents=True)
    other = tmp_path / "a" / "tier" / "index.db"
    for content in (None, b"", b"do not touch"):
        if content is not None:
            other.write_bytes(content)
        said: list[str] = []
        index = Index(folder, Sayings(said.append))
        index.write(Changes([], ["0" * 40 + "-0"]))
        assert index.entries() == {} and len(said) == 1
        index.close()
        assert (other.read_bytes() if other.exists() else None) == content
    folder.close()


def test_a_journal_that_names_another_file_does_not_remove_it(tmp_path: Path) -> None:
    """What SQLite calls a super-journal is removed by who finds it named in a journal."""
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    place.store.close()
    precious = tmp_path / "precious"
    precious.write_bytes(b"do not touch")
    name = str(precious).encode()
    head = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + struct.pack(">IIIII", 0, 1, 4, 512, 4096)
    end = struct.pack(">I", 2**30 // 4096 + 1) + name + struct.pack(">II", len(name), sum(name))
    journal = head.ljust(512, b"\0") + end + head[:8]
    with contextlib.closing(sqlite3.connect(place.path / "index.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    (place.path / "index.db-journal").write_bytes(journal)
    place = Place(place.path)
    assert place.back(_RUN) == 700
    assert precious.exists() and not (place.path / "index.db-journal").exists()
    place.store.close()


@pytest.mark.parametrize("used", [2**63 - 1, -(2**63), 2**62])
def test_a_time_of_use_that_cannot_be_does_not_break_the_clock(tmp_path: Path, used: int) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    place.store.close()
    with contextlib.closing(sqlite3.connect(place.path / "index.db", isolation_level=None)) as connection:
        connection.execute("UPDATE entries SET used = ?", (used,))
    place = Place(place.path)
    assert place.keep(tokens(100, 1)) == [True]
    assert [entry.label.count for entry in place.store.catalogue.oldest()][-1] == 100
    place = place.again()
    assert place.back(_RUN) == 700 and place.said == []
    place.store.close()


def test_a_file_of_a_time_without_a_number_costs_the_index_no_other_row(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    for entry in place.store.catalogue.oldest()[:1]:
        assert entry.filed is not None
        entry.filed = Filed(entry.filed.size, 1 << 64)
    place.ahead(_RUN)
    place.store.close()
    assert place.said == []
    with contextlib.closing(sqlite3.connect(place.path / "index.db")) as connection:
        assert connection.execute("SELECT count(*) FROM entries").fetchone() == (2,)


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
