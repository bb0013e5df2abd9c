"""What is written first, what is dropped, and that nobody waits but who wants to."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from sessiond.daemon.engine.disk import writer
from sessiond.daemon.engine.disk.catalogue import Entry, Run
from sessiond.daemon.engine.disk.format import Label
from sessiond.daemon.engine.disk.writer import Writer

_PATIENCE_S = 20.0


class _Desk:
    """A writer whose writes can be stopped half way."""

    def __init__(self, limit: int = 1000) -> None:
        self.log: list[str] = []
        self.faults: list[str] = []
        self.dropped: list[str] = []
        self.entries: dict[str, Entry] = {}
        self.busy = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()
        self.writer = Writer(
            limit,
            put=self._put,
            dropped=lambda entry: self.dropped.append(entry.label.name),
            chores=lambda: None,
            failed=lambda error: self.faults.append(str(error)),
        )

    def offer(self, run: Run, payload: bytes) -> bool:
        """As who asked once for it; `entries` has it then, and may be used again."""
        self.entries[run.label.name] = Entry(run.label, run.stamp)
        return self.writer.offer(run, self.entries[run.label.name], payload)

    def _put(self, run: Run, payload: bytes) -> None:
        self.busy.set()
        assert self.may_end.wait(_PATIENCE_S)
        if payload == b"raise":
            raise RuntimeError("a fault")
        self.log.append(run.label.name)

    def block(self) -> None:
        """Have the thread be about a write that does not end."""
        self.may_end.clear()
        self.busy.clear()
        self.offer(_run("first", 0), b"x")
        assert self.busy.wait(_PATIENCE_S)

    def names(self, *runs: Run) -> list[str]:
        return [run.label.name for run in runs]


def _run(key: str, stamp: int, start: int = 0, salt: bytes = b"s") -> Run:
    label = Label(salt, b"p", key.encode().ljust(32), start, b"\0" * 4)
    return Run(None, label, stamp)  # type: ignore[arg-type] # a writer does not look at the space


@pytest.fixture
def desk() -> Generator[_Desk, None, None]:
    made = _Desk()
    made.writer.start()
    yield made
    made.may_end.set()
    assert made.writer.stop(_PATIENCE_S)


def test_the_most_useful_is_written_first(desk: _Desk) -> None:
    old, young_end, young, pinned = _run("a", 1), _run("b", 2, 256), _run("c", 2), _run("d", 0, 0, b"pinned")
    desk.writer.pinned = frozenset({b"pinned"})
    desk.block()
    for run in (old, young_end, young, pinned):
        assert desk.offer(run, b"x")
    desk.may_end.set()
    assert desk.writer.flush(_PATIENCE_S)
    assert desk.log[1:] == desk.names(pinned, young, young_end, old)


def test_who_offers_does_not_wait_and_the_least_useful_is_dropped(desk: _Desk) -> None:
    desk.block()
    old, young, young_end = _run("a", 1), _run("b", 2), _run("c", 2, 256)
    assert [desk.offer(run, bytes(400)) for run in (old, young_end)] == [True, True]
    assert desk.offer(young, bytes(400)) and desk.dropped == desk.names(old)
    assert not desk.offer(_run("d", 1), bytes(400)), "it is less useful than what waits"
    assert not desk.offer(_run("e", 9), bytes(1001)), "it could never wait"
    assert desk.writer.waiting_bytes == 800
    desk.may_end.set()
    assert desk.writer.flush(_PATIENCE_S)
    assert desk.log[1:] == desk.names(young, young_end) and len(desk.dropped) == 3


def test_what_was_asked_for_again_while_it_waited_goes_before_what_is_new(desk: _Desk) -> None:
    """Or, on a slow disk, what is needed all the time would stay behind whatever is needed once."""
    desk.block()
    often, often_end, twice = _run("a", 1), _run("b", 1, 256), _run("e", 2)
    once, new = _run("c", 3), _run("d", 7)
    for run in (often, often_end, twice, once):
        desk.offer(run, bytes(200))
    for run, used in ((twice, 5), (often, 6), (often_end, 6)):
        desk.entries[run.label.name].used = used
    assert desk.offer(new, bytes(300)) and desk.dropped == desk.names(once)
    desk.may_end.set()
    assert desk.writer.flush(_PATIENCE_S)
    assert desk.log[1:] == desk.names(often, often_end, twice, new)


def test_what_was_called_for_is_done_before_the_end(desk: _Desk) -> None:
    desk.block()
    desk.writer.call(lambda: desk.log.append("called"))
    desk.offer(_run("a", 1), b"x")
    assert not desk.writer.stop(0.0)
    desk.may_end.set()
    assert desk.writer.stop(_PATIENCE_S)
    assert desk.log[1:] == ["called"]


def test_what_waits_already_is_not_taken_twice(desk: _Desk) -> None:
    desk.block()
    for _ in range(3):
        assert desk.offer(_run("a", 1), bytes(400))
    assert desk.writer.waiting_bytes == 400 and desk.dropped == []
    desk.may_end.set()
    assert desk.writer.flush(_PATIENCE_S) and len(desk.log) == 2


def test_while_a_turn_runs_at_most_one_is_written_and_a_flush_writes_all(
    desk: _Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "HELD_PAUSE_S", 1e9)
    desk.writer.hold(True)
    for number in range(4):
        desk.offer(_run(str(number), number), b"x")
    assert desk.busy.wait(_PATIENCE_S), "an engine that is never idle would keep nothing"
    assert len(desk.log) <= 1 and desk.writer.waiting_bytes >= 3
    assert desk.writer.flush(_PATIENCE_S) and len(desk.log) == 4


def test_a_flush_ends_with_its_time(desk: _Desk) -> None:
    desk.block()
    assert not desk.writer.flush(0.0)
    desk.may_end.set()
    assert desk.writer.flush(_PATIENCE_S)


def test_after_the_end_nothing_is_taken(desk: _Desk) -> None:
    assert desk.writer.stop(_PATIENCE_S)
    assert not desk.offer(_run("a", 1), b"x") and desk.dropped == desk.names(_run("a", 1))
    assert desk.log == []


def test_a_fault_does_not_end_the_thread(desk: _Desk) -> None:
    desk.offer(_run("a", 1), b"raise")
    desk.offer(_run("b", 1), b"x")
    assert desk.writer.flush(_PATIENCE_S)
    assert desk.log == desk.names(_run("b", 1)) and desk.faults == ["a fault"]
