"""How `watch` looks at a terminal: a bar while something runs, and a line of what stays of it."""

from __future__ import annotations

from rich.console import Console
from tests.client.events import EVENTS, event
from tests.client.fake_daemon import FakeDaemon
from tests.client.terminal import on_a_terminal, program

from sessiond.client.cli.watch_view import WatchView
from sessiond.v1 import session_service_pb2 as pb

SESSION = pb.Session(
    name="sessions/7",
    state=pb.SESSION_STATE_READY,
    workspace_root="/w\x1b[31m[bold]",
    prefix_tokens=3705,
    resident_tokens=3220,
)


def _drawn(view: WatchView) -> str:
    console = Console(record=True, width=100, file=open("/dev/null", "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    console.print(view)
    return console.export_text()


def _progress(view: WatchView, stage: str, done: int, total: int = 2048) -> str | None:
    progress = pb.PrefillProgress(stage=stage, done_tokens=done, total_tokens=total)
    line = view.take(event(prefill_progress=progress).event)
    return None if line is None else line.plain


def test_the_session_stands_below() -> None:
    said = _drawn(WatchView(SESSION))
    assert "sessions/7 · ready · prefix of 3,705 tokens · 3,220 resident · /w[31m[bold]" in said


def test_a_prefill_is_a_bar_until_it_is_done() -> None:
    view = WatchView(SESSION)
    assert _progress(view, "prefix", 512) is None
    assert _progress(view, "prefix", 1024) is None
    said = _drawn(view)
    assert "prefix ━" in said and "1024/2048" in said and "tokens" in said
    line = _progress(view, "prefix", 2048)
    assert line is not None and line.endswith("prefill      prefix: 2,048 of 2,048 tokens")
    assert "2048" not in _drawn(view)


def test_a_turn_and_a_run_in_the_background_have_a_bar_each() -> None:
    view = WatchView(SESSION)
    _progress(view, "keep_hot", 100)
    _progress(view, "suffix", 10, 20)
    said = _drawn(view)
    assert "keep-hot" in said and "suffix" in said
    view.take(event(state=pb.SESSION_STATE_READY).event)  # the turn is over, however it ended
    said = _drawn(view)
    assert "keep-hot" in said and "suffix" not in said
    view.take(event(keep_hot=pb.KeepHotRun(phase="superseded")).event)
    assert "keep-hot" not in _drawn(view)


def test_every_kind_but_progress_leaves_a_line() -> None:
    view = WatchView(SESSION)
    lines = [view.take(each.event) for each in EVENTS]
    assert [line is None for line in lines] == [
        each.event.WhichOneof("event") == "prefill_progress" for each in EVENTS
    ]
    assert view.take(pb.SessionEvent()) is None


def test_on_a_terminal_it_draws_and_ends_with_the_session(daemon: FakeDaemon) -> None:
    daemon.answers["GetSession"] = pb.GetSessionResponse(session=SESSION)
    daemon.answers["WatchSession"] = EVENTS
    said = on_a_terminal(program(daemon, "watch", "7"))
    for words in ("a[31m.py, b.py", "412 ms after the save", "SESSION_FATAL: signal 6", "3,705 tokens"):
        assert words in said
    assert "\x1b[31m" not in said
