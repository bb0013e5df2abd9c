"""An engine's start over a disk that has what its first turn needs. The worker runs in a thread, over a real socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sessiond.adapters.base import ContextSettings, ModelSettings
from sessiond.daemon.engine import wire, worker
from sessiond.daemon.engine.disk import DiskTier
from sessiond.daemon.engine.disk import tier as tier_module
from sessiond.daemon.engine.disk.store import Store
from sessiond.daemon.engine.worker import Worker

MODEL = "scripted-kv:step_ms=20,num_ctx=2048"
TOKENS = [7 * index % 200 + 1 for index in range(900)]
_PATIENCE_S = 20.0


class _Daemon:
    """The other end of a worker's socket."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def ask(self, command: wire.AnyCommand) -> wire.Answer:
        self._channel.sendall(wire.encode(command))
        while True:
            size = wire.PREFIX.unpack(self._exactly(wire.PREFIX.size))[0]
            event = wire.decode_event(self._exactly(size))
            assert not isinstance(event, wire.Failed), event
            if isinstance(event, wire.Done) and event.id == command.id:
                return event.answer

    def _exactly(self, size: int) -> bytes:
        data = self._channel.recv(size, socket.MSG_WAITALL)
        assert len(data) == size, "the engine is gone"
        return data


@contextmanager
def _engine() -> Generator[_Daemon, None, None]:
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=Worker(theirs).serve, daemon=True)
    thread.start()
    with ours, theirs:
        ours.settimeout(_PATIENCE_S)
        yield _Daemon(ours)
        ours.shutdown(socket.SHUT_RDWR)
        thread.join(_PATIENCE_S)
        assert not thread.is_alive()


def _first_turn(folder: Path) -> wire.Advanced:
    """What an engine's first turn took. What it computed is on the disk then."""
    with _engine() as daemon:
        daemon.ask(wire.Load(1, "scripted-kv", MODEL, ModelSettings(), 1 << 20, str(folder), 1 << 30))
        daemon.ask(wire.Open(2, "one", "it", ContextSettings(num_ctx=2048), workspace="/w"))
        advanced = daemon.ask(wire.Advance(3, "one", wire.pack_tokens(TOKENS)))
        assert isinstance(advanced, wire.Advanced)
        daemon.ask(wire.Flush(4, _PATIENCE_S))
    return advanced


def test_the_first_turn_finds_what_the_disk_has_though_it_opens_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "kv"
    assert _first_turn(folder).prefilled == len(TOKENS)
    wanted, wait_open = threading.Event(), DiskTier.wait_open

    def open_when_wanted(*args: object, **others: object) -> Store:
        wanted.wait(_PATIENCE_S)
        return Store(*args, **others)  # type: ignore[arg-type]  # whatever the tier gives it

    def want(tier: DiskTier, seconds: float) -> bool:
        wanted.set()
        return wait_open(tier, seconds)

    monkeypatch.setattr(worker, "OPENING_S", _PATIENCE_S)
    monkeypatch.setattr(tier_module, "Store", open_when_wanted)
    monkeypatch.setattr(DiskTier, "wait_open", want)
    advanced = _first_turn(folder)
    assert (advanced.restored, advanced.prefilled) == (len(TOKENS), 0)


def test_a_disk_that_does_not_open_is_waited_for_no_longer_than_it_is_worth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, release = tmp_path / "kv", threading.Event()

    def hang(*args: object, **others: object) -> Store:
        release.wait(_PATIENCE_S)
        return Store(*args, **others)  # type: ignore[arg-type]  # as above

    monkeypatch.setattr(worker, "OPENING_S", 0.01)
    monkeypatch.setattr(tier_module, "Store", hang)
    with _engine() as daemon:
        daemon.ask(wire.Load(1, "scripted-kv", MODEL, ModelSettings(), 1 << 20, str(folder), 1 << 30))
        daemon.ask(wire.Open(2, "one", "it", ContextSettings(num_ctx=2048), workspace="/w"))
        advanced = daemon.ask(wire.Advance(3, "one", wire.pack_tokens(TOKENS[:100])))
        assert isinstance(advanced, wire.Advanced) and advanced.prefilled == 100
        release.set()
