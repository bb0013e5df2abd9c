"""Events to all who watch."""

from __future__ import annotations

import asyncio

import pytest

from sessiond.daemon.sessions import events as events_module
from sessiond.daemon.sessions.events import Broadcast, PrefillProgressed, SessionEvent, StateChanged


def _told(queue: asyncio.Queue[SessionEvent | None]) -> list[object]:
    found: list[object] = []
    while not queue.empty():
        event = queue.get_nowait()
        found.append(event if event is None else event.what)
    return found


def test_everybody_hears_what_happens_while_they_watch() -> None:
    broadcast = Broadcast()
    broadcast.tell(StateChanged("early"))
    with broadcast.watch() as one, broadcast.watch() as two:
        broadcast.tell(StateChanged("busy"))
        broadcast.end()
        assert _told(one) == _told(two) == [StateChanged("busy"), None]
    broadcast.tell(StateChanged("late"))
    assert one.empty()


def test_a_slow_watcher_loses_the_oldest_only_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "BACKLOG", 4)
    broadcast = Broadcast()
    with broadcast.watch() as slow, broadcast.watch() as quick:
        heard: list[object] = []
        for done in range(10):
            broadcast.tell(PrefillProgressed("prefix", done, 10))
            heard += _told(quick)
        assert heard == [PrefillProgressed("prefix", done, 10) for done in range(10)]
        assert _told(slow) == heard[-4:]
        for done in range(10):
            broadcast.tell(PrefillProgressed("prefix", done, 10))
        broadcast.end()
        assert _told(slow) == [*heard[-3:], None]


def test_who_leaves_is_forgotten() -> None:
    broadcast = Broadcast()
    with pytest.raises(RuntimeError), broadcast.watch():
        raise RuntimeError
    assert not broadcast._queues
