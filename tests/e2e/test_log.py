"""The daemon's log: one line for each rpc, and never a word of a prompt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.daemon import Daemon, eventually, short_folder

from sessiond.client import DecodeConfig, InvalidInput, Session, SessionNotFound, UnsupportedFeature

SECRET = "Quetzalcoatl-sleeps"


@pytest.fixture(scope="module")
def chatty() -> Iterator[Daemon]:
    """A daemon that logs all it can."""
    with (
        short_folder() as folder,
        Daemon(folder, "scripted-kv:num_ctx=2048", "--log-level", "debug") as daemon,
    ):
        yield daemon


def _new_lines(daemon: Daemon, before: int, count: int) -> list[dict[str, Any]]:
    """The canonical lines since then: as many as there were rpcs, and no more."""
    eventually(lambda: len(daemon.records("rpc")) >= before + count, "the lines are written")
    return daemon.records("rpc")[before:]


def test_one_line_for_each_rpc(chatty: Daemon) -> None:
    before = len(chatty.records("rpc"))
    session = chatty.client.open_session(key="log")
    session.ensure_prefix("xyz")
    list(session.complete("xy", max_tokens=2))
    session.explain()
    session.close()
    lines = _new_lines(chatty, before, 5)
    assert [line["method"] for line in lines] == [
        "SessionService/OpenSession",
        "SessionService/EnsurePrefix",
        "SessionService/Complete",
        "SessionService/ExplainContext",
        "SessionService/CloseSession",
    ]
    for line in lines:
        assert line["code"] == "OK"
        assert line["ms"] >= 0
        assert line["session"] == session.name
        assert "reason" not in line
    assert lines[1]["prefix_tokens"] == lines[1]["reused_tokens"] + lines[1]["prefilled_tokens"] > 0
    assert lines[2]["generated_tokens"] <= 2


def test_errors_are_logged_with_code_and_reason(chatty: Daemon) -> None:
    session = chatty.client.open_session(key="errors")
    before = len(chatty.records("rpc"))
    with pytest.raises(SessionNotFound):
        chatty.client.session("sessions/none").info()
    with pytest.raises(InvalidInput):
        session.ensure_prefix("a\0b")
    with pytest.raises(UnsupportedFeature):
        chatty.client.embed(["x"])
    with pytest.raises(UnsupportedFeature):
        session.prefill_suffix(fim=("a", "b"))
    told = [(line["method"], line["code"], line["reason"]) for line in _new_lines(chatty, before, 4)]
    assert told == [
        ("SessionService/GetSession", "NOT_FOUND", "SESSION_NOT_FOUND"),
        ("SessionService/EnsurePrefix", "INVALID_ARGUMENT", "INVALID_INPUT"),
        ("ModelService/Embed", "UNIMPLEMENTED", "UNSUPPORTED_FEATURE"),
        ("SessionService/PrefillSuffix", "UNIMPLEMENTED", "UNSUPPORTED_FEATURE"),
    ]


def test_a_cancelled_rpc_is_logged_as_cancelled(chatty: Daemon) -> None:
    session = chatty.client.open_session(key="cancelled")
    before = len(chatty.records("rpc"))
    with session.watch():
        eventually(session.explain, "it watches")
    lines = _new_lines(chatty, before, 2)
    assert ("SessionService/WatchSession", "CANCELLED") in {(line["method"], line["code"]) for line in lines}


def test_no_word_of_a_prompt_is_logged(chatty: Daemon) -> None:
    folder = chatty.folder / "workspace"
    folder.mkdir()
    (folder / "file.txt").write_text(SECRET)
    session = chatty.client.open_session(workspace_root=folder)
    session.ensure_prefix(workspace=True)
    session.ensure_prefix(SECRET)
    session.ensure_prefix(segments=[("a", SECRET), ("b", SECRET + "2")])
    session.prefill_suffix(SECRET)
    list(session.complete(messages=[("user", SECRET), ("assistant", SECRET), ("user", SECRET)], max_tokens=1))
    list(session.decode(max_tokens=1, stop=[SECRET]))
    chatty.client.tokenize(SECRET)
    for wrong in (SECRET + "\0", SECRET * 1000):
        refused: tuple[Any, ...] = (
            lambda wrong=wrong: session.ensure_prefix(wrong),
            lambda wrong=wrong: session.prefill_suffix(wrong),
            lambda wrong=wrong: list(session.complete(messages=[("user", wrong)])),
        )
        for ask in refused:
            with pytest.raises(Exception, match=r"NUL|fit"):
                ask()
    _fails_to_decode(session)
    log = chatty.log_text()
    assert SECRET not in log
    assert SECRET[:12] not in log


def _fails_to_decode(session: Session) -> None:
    for wrong in (
        DecodeConfig(grammar=SECRET),
        DecodeConfig(grammar=f"root ::= {SECRET}"),
        DecodeConfig(json_schema=f'{{"{SECRET}": 1}}'),
    ):
        with pytest.raises(InvalidInput):
            list(session.decode(wrong))
    list(session.decode(choices=[SECRET], max_tokens=1))
    with pytest.raises(UnsupportedFeature):
        session.prefill_suffix(fim=(SECRET, SECRET))


def test_every_line_is_json_with_time_and_level(chatty: Daemon) -> None:
    lines = chatty.log_text().splitlines()
    assert len(chatty.records()) == len(lines)
    assert all({"event", "level", "timestamp"} <= record.keys() for record in chatty.records())


def test_no_bug_was_logged(chatty: Daemon) -> None:
    assert not chatty.records("rpc.bug")
