"""A daemon that ends and begins again: the same names answer, and what was computed is not computed again."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.e2e.daemon import Daemon, eventually, is_gone

from sessiond.client import Config, Session, SessionNotFound, SessionUnavailable

TEXT = "The quick brown fox jumps over the lazy dog. " * 60
MODEL = "scripted-kv:num_ctx=4096,step_ms=2"
SECOND_KEY = "second"


@pytest.fixture
def root(folder: Path) -> Path:
    made = folder / "workspace"
    made.mkdir()
    (made / "a.txt").write_text(TEXT)
    return made


@pytest.fixture(params=[signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def end(request: pytest.FixtureRequest) -> signal.Signals:
    """How the first daemon ends."""
    return signal.Signals(request.param)


def _open(daemon: Daemon, root: Path | None, key: str = "mine") -> Session:
    return daemon.client.open_session(root, key=key, config=Config(num_ctx=4096))


def _said(session: Session) -> str:
    return "".join(chunk.text for chunk in session.decode(max_tokens=8, temperature=0.0))


def _ended(daemon: Daemon, how: signal.Signals, *, entries: int, names: int) -> None:
    """End it, once idle time has done its part where it is killed."""
    if how == signal.SIGKILL:
        state = daemon.folder / "state"
        eventually(lambda: len(list(state.glob("kv/*/entries/*"))) >= entries, "KV is on the disk")
        eventually(lambda: _names(state / "sessions.db") >= names, "names are on the disk")
        os.kill(daemon.engine_pid(), signal.SIGKILL)
        daemon.process.kill()
        daemon.process.wait()
    daemon.stop()


def _names(ledger: Path) -> int:
    """How many sessions with a prefix stand there."""
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT said FROM sessions").fetchall()
    return sum(b'"prefix":{' in said for (said,) in rows)


def test_a_session_answers_to_its_name_and_computes_nothing_again(
    folder: Path, root: Path, end: signal.Signals
) -> None:
    first = Daemon(folder, MODEL).__enter__()
    session = _open(first, root)
    cold = session.ensure_prefix(workspace=True).status
    session.prefill_suffix("why?")
    said = _said(session)
    _ended(first, end, entries=cold.prefix_tokens // 256, names=1)
    with Daemon(folder, MODEL) as second:
        again = second.client.session(session.name)
        assert again.info().prefix_tokens == cold.prefix_tokens
        again.prefill_suffix("why?")  # with nothing ensured: its prefix is what it was
        assert _said(again) == said
        warm = again.ensure_prefix(workspace=True).status
        assert (warm.manifest_digest, warm.prefilled_tokens) == (cold.manifest_digest, 0)
        attached = second.client.open_session(root, key="mine", config=Config(num_ctx=4096))
        assert attached.name == session.name
        (root / "a.txt").write_text(TEXT.replace("fox", "cat"))  # and it is watched as before
        assert again.ensure_prefix(workspace=True).status.manifest_digest != cold.manifest_digest


def test_a_prefix_comes_back_from_the_disk(folder: Path, root: Path, end: signal.Signals) -> None:
    first = Daemon(folder, MODEL).__enter__()
    cold = _open(first, root).ensure_prefix(workspace=True).status
    assert cold.prefilled_tokens == cold.prefix_tokens
    _ended(first, end, entries=cold.prefix_tokens // 256, names=1)
    with Daemon(folder, MODEL) as second:
        status = _open(second, root).ensure_prefix(workspace=True).status
        assert status.restored_tokens >= 0.95 * cold.prefix_tokens
        assert status.reused_tokens + status.restored_tokens + status.prefilled_tokens == status.prefix_tokens


def test_what_clients_gave_as_text_is_there_too(folder: Path, end: signal.Signals) -> None:
    first = Daemon(folder, MODEL).__enter__()
    session = _open(first, None)
    cold = session.ensure_prefix(TEXT[:1000]).status
    _ended(first, end, entries=1, names=1)
    with Daemon(folder, MODEL) as second:
        again = second.client.session(session.name)
        assert again.info().prefix_tokens == cold.prefix_tokens
        assert again.explain().manifest.digest == cold.manifest_digest


def test_a_closed_session_stays_closed(folder: Path, end: signal.Signals) -> None:
    first = Daemon(folder, MODEL).__enter__()
    gone, stays = _open(first, None), _open(first, None, SECOND_KEY)
    for session in (gone, stays):
        session.ensure_prefix(TEXT[:1000])
    gone.close()
    eventually(lambda: _names(folder / "state" / "sessions.db") == 1, "the close is on the disk")
    _ended(first, end, entries=1, names=1)
    with Daemon(folder, MODEL) as second:
        assert [each.name for each in second.client.sessions()] == [stays.name]
        with pytest.raises(SessionNotFound):
            second.client.session(gone.name).info()


def test_a_session_whose_workspace_is_gone_is_forgotten_and_told(folder: Path, root: Path) -> None:
    with Daemon(folder, MODEL) as first:
        session = _open(first, root)
        session.ensure_prefix(workspace=True)
    root.rename(folder / "elsewhere")
    with Daemon(folder, MODEL) as second:
        with pytest.raises(SessionNotFound):
            second.client.session(session.name).info()
        [told] = second.records("session.not_revived")
        assert told["session"] == session.name


@pytest.mark.parametrize("damage", [b"", b"no database", b"SQLite format 3\0" + bytes(4000)])
def test_a_ledger_that_is_damaged_is_put_aside(folder: Path, damage: bytes) -> None:
    with Daemon(folder, MODEL) as first:
        _open(first, None).ensure_prefix("xyz")
    ledger = folder / "state" / "sessions.db"
    for beside in ("", "-wal", "-shm"):
        ledger.with_name(ledger.name + beside).unlink(missing_ok=True)
    ledger.write_bytes(damage)
    with Daemon(folder, MODEL) as second:
        session = _open(second, None)
        status = session.ensure_prefix("xyz").status
    with Daemon(folder, MODEL) as third:
        assert third.client.session(session.name).info().prefix_tokens == status.prefix_tokens


def test_without_a_disk_tier_names_answer_and_kv_is_computed(folder: Path) -> None:
    with Daemon(folder, MODEL, "--disk-tier-mb", "0") as first:
        session = _open(first, None)
        session.ensure_prefix(TEXT[:1000])
    assert not (folder / "state" / "kv").exists()
    with Daemon(folder, MODEL, "--disk-tier-mb", "0") as second:
        again = second.client.session(session.name)
        status = again.ensure_prefix(TEXT[:1000]).status
        assert status.prefilled_tokens == status.prefix_tokens


def test_a_fork_comes_back_with_its_prefix(folder: Path) -> None:
    with Daemon(folder, MODEL) as first:
        session = _open(first, None)
        cold = session.ensure_prefix(TEXT[:1000]).status
        child = session.fork("beside")
    with Daemon(folder, MODEL) as second:
        for name in (session.name, child.name):
            assert second.client.session(name).explain().manifest.digest == cold.manifest_digest


def test_a_session_whose_engine_died_comes_back_as_what_it_was_last(folder: Path) -> None:
    with Daemon(folder, MODEL) as first:
        session = _open(first, None)
        session.ensure_prefix(TEXT[:1000])
        pid = first.engine_pid()
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: is_gone(pid) and len(first.records("engine.ready")) == 2, "another engine stands")
        again = _open(first, None)
        last = again.ensure_prefix(TEXT[:500]).status
        assert again.name == session.name
    with Daemon(folder, MODEL) as second:
        assert [each.name for each in second.client.sessions()] == [session.name]
        assert session.name == second.client.session(session.name).name
        digest = second.client.session(session.name).explain().manifest.digest
        assert digest == last.manifest_digest


def test_who_opens_while_the_model_loads_gets_the_session_it_had(folder: Path) -> None:
    with Daemon(folder, MODEL) as first:
        session = _open(first, None)
        cold = session.ensure_prefix(TEXT[:1000]).status
    with Daemon(folder, MODEL, wait=False) as second:
        eventually(second.socket.exists, "it listens")
        again = eventually(lambda: _opened_early(second), "it opens")
        assert again.name == session.name
        assert again.explain().manifest.digest == cold.manifest_digest
        second.wait_until_serving()
        assert [each.name for each in second.client.sessions()] == [session.name]


def _opened_early(daemon: Daemon) -> Session | None:
    try:
        return _open(daemon, None)
    except SessionUnavailable:
        return None


def test_an_entry_on_the_disk_that_kills_two_engines_is_left_out_by_the_third(folder: Path) -> None:
    model, text, config = (
        "scripted-kv:num_ctx=512,die=SIGSEGV@restore",
        "xyz" * 90,
        Config(prompt_format="raw"),
    )
    with Daemon(folder, model) as first:
        cold = first.client.open_session(key="mine", config=config).ensure_prefix(text).status
    with Daemon(folder, model) as second:
        session = second.client.open_session(key="mine", config=config)
        status = session.ensure_prefix(text).status
        assert (status.prefilled_tokens, status.restored_tokens) == (cold.prefix_tokens, 0)
        assert status.manifest_digest == cold.manifest_digest
        assert [("SIGSEGV" in each["cause"]) for each in second.records("engine.died")] == [True, True]
        assert _said(session)
