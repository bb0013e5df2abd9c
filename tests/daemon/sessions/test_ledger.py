"""The sessions of a daemon on disk: what comes back, and what a hostile or broken file can do."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import structlog

from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.ledger import MOST_UNREAD, WAIT_S, Ledger, Remembered, _opened, _remove
from sessiond.daemon.sessions.open_request import OpenRequest
from sessiond.daemon.sessions.sources import PrefixRequest
from sessiond.daemon.workspace.segment import Segment


def _session(number: int, text: str = "") -> Remembered:
    opened = OpenRequest(Path("/a/ü b"), "a model", f"key {number}", SessionConfig(prompt_format="raw"))
    prefix = PrefixRequest((Segment("s", "text", text),), max_tokens=number) if text else None
    return Remembered(f"{number:016x}", float(number), opened, prefix)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "sessions.db"


async def _filled(path: Path, *sessions: Remembered) -> None:
    ledger = Ledger(path)
    ledger.load()
    for session in sessions:
        ledger.remember(session)
    await ledger.close()


async def _loaded(path: Path) -> list[Remembered]:
    ledger = Ledger(path)
    found = ledger.load()
    await ledger.close()
    return found


async def test_what_was_remembered_comes_back_oldest_first(path: Path) -> None:
    sessions = [_session(2, "text\0 東京"), _session(1), _session(3, "x" * 100_000)]
    await _filled(path, *sessions)
    assert await _loaded(path) == sorted(sessions, key=lambda each: each.created)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)  # noqa: ASYNC240 - nothing else runs


async def test_what_was_forgotten_does_not(path: Path) -> None:
    await _filled(path, _session(1), _session(2))
    ledger = Ledger(path)
    ledger.load()
    ledger.forget(_session(1).id)
    ledger.forget("never known")
    ledger.moved(_session(2).id, PrefixRequest(workspace=True, expect={"digest": "x"}))
    ledger.moved("never known", PrefixRequest(workspace=True))
    await ledger.close()
    [left] = await _loaded(path)
    assert (left.id, left.prefix) == (_session(2).id, PrefixRequest(workspace=True))


async def test_a_second_daemon_goes_without(path: Path) -> None:
    first = Ledger(path)
    first.load()
    first.remember(_session(1))
    second = Ledger(path)
    assert second.load() == []
    second.remember(_session(2))
    await second.close()
    await first.close()
    assert await _loaded(path) == [_session(1)]


def _row(path: Path, *values: object) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("INSERT INTO sessions VALUES (?, ?, ?)", values)


@pytest.mark.parametrize(
    "values",
    [
        ("../../etc", 1.0, b"{}"),
        ("ab", 1.0, b""),
        ("ab", 1.0, b"{}"),
        ("ab", 1.0, b"\xff"),
        ("ab", 1.0, b"[" * 100_000),
        ("ab", 1.0, b'{"opened": {"workspace_root": "relative", "model": "", "key": ""}, "prefix": null}'),
        ("a" * 65, 1.0, b"{}"),
        ("a\ufffd", 1.0, b"{}"),
    ],
)
async def test_a_row_that_is_not_ours_is_passed_over_and_removed(
    path: Path, values: tuple[object, ...]
) -> None:
    await _filled(path, _session(1))
    _row(path, *values)
    assert await _loaded(path) == [_session(1)]
    assert _ids(path) == [_session(1).id]
    assert await _loaded(path) == [_session(1)]


async def test_an_id_that_is_no_text_keeps_no_other_row_from_being_read(path: Path) -> None:
    await _filled(path, _session(1), _session(2))
    _run(path, "INSERT INTO sessions VALUES (CAST(x'ff41' AS TEXT), 1.0, x'7b7d')")
    assert await _loaded(path) == [_session(1), _session(2)]
    assert _ids(path) == [_session(1).id, _session(2).id]


async def test_a_row_that_is_too_long_is_not_even_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await _filled(path, _session(1), _session(2, "x" * 5000))
    monkeypatch.setattr("sessiond.daemon.sessions.ledger.MAX_BYTES", 1000)
    assert await _loaded(path) == [_session(1)]
    assert _ids(path) == [_session(1).id]


async def test_what_is_told_and_removed_at_one_start_is_bounded(path: Path) -> None:
    sessions = [_session(number) for number in range(1, 6)]
    await _filled(path, *sessions)
    rows = ((f"bad {number}", float(number % 5), b"{}") for number in range(2 * MOST_UNREAD + 1))
    with closing(sqlite3.connect(path)) as database, database:
        database.executemany("INSERT INTO sessions VALUES (?, ?, ?)", rows)
    for left in (MOST_UNREAD + 1, 1, 0, 0):
        with structlog.testing.capture_logs() as told:
            assert await _loaded(path) == sessions
        assert len(told) <= MOST_UNREAD
        assert len(_ids(path)) == len(sessions) + left


async def test_a_row_that_can_be_read_by_now_is_not_removed(path: Path) -> None:
    """Whatever was found before: what somebody wrote meanwhile under that row is looked at first."""
    await _filled(path, _session(1), _session(2))
    with closing(_opened(path)) as database:
        rows = [row for (row,) in database.execute("SELECT rowid FROM sessions")]
        _remove(database, [*rows, 12345])
    assert await _loaded(path) == [_session(1), _session(2)]


async def test_rows_that_cannot_be_removed_now_are_only_passed_over(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _filled(path, _session(1))
    _row(path, "no id", 1.0, b"{}")
    connect: Any = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, **named, timeout=0.0))
    with closing(connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await _loaded(path) == [_session(1)]
        other.execute("ROLLBACK")
    assert len(_ids(path)) == 2
    assert await _loaded(path) == [_session(1)]
    assert _ids(path) == [_session(1).id]


def _ids(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        return [each for (each,) in database.execute("SELECT id FROM sessions ORDER BY created")]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"no database"),
        lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(5000)),
        lambda path: _run(path, "DROP TABLE sessions", "CREATE TABLE sessions (id)"),
        lambda path: _run(path, "CREATE VIEW v AS SELECT 1"),
        lambda path: _run(
            path,
            "DROP TABLE sessions",
            "CREATE TABLE sessions (id PRIMARY KEY, created, said) WITHOUT ROWID",
        ),
    ],
)
async def test_a_file_that_is_not_ours_is_put_aside(path: Path, spoil: Callable[[Path], None]) -> None:
    await _filled(path, _session(1))
    spoil(path)
    assert await _loaded(path) == []
    assert path.with_suffix(".damaged").exists()
    await _filled(path, _session(2))
    assert await _loaded(path) == [_session(2)]


async def test_a_file_that_is_in_use_is_not_put_aside(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await _filled(path, _session(1))
    connect: Any = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, **named, timeout=0.0))
    with closing(connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        assert await _loaded(path) == []
    assert not path.with_suffix(".damaged").exists()
    assert await _loaded(path) == [_session(1)]


async def test_what_could_not_be_written_is_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(path)
    ledger.load()
    with monkeypatch.context() as full:

        def refuse(*_given: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        full.setattr("sessiond.daemon.sessions.ledger._write", refuse)
        ledger.remember(_session(1))
        await asyncio.sleep(2 * WAIT_S)
    ledger.remember(_session(2))
    await ledger.close()
    assert await _loaded(path) == [_session(1), _session(2)]


def _run(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)


async def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    path.parent.mkdir()
    path.symlink_to(elsewhere)  # noqa: ASYNC240 - nothing else runs
    await _filled(path, _session(1))
    assert elsewhere.read_text() == "mine"


async def test_without_a_path_nothing_is_remembered() -> None:
    ledger = Ledger()
    assert ledger.load() == []
    ledger.remember(_session(1))
    await ledger.close()
