#!/usr/bin/env python3
"""Clients that connect, ask and vanish, at random: does the daemon keep anything of them?

    .venv/bin/python scripts/vanish.py [--clients 200] [--at-once 20] [--seed 1] [--model NAME|PATH]

The daemon runs in this process, so that its tasks, files and sessions can be counted; the clients run in another one, and
some in processes of their own that are killed. Each opens a session, or attaches to one, asks something, and goes without a
word: its socket is closed in mid-call or in mid-message, its stream is reset, or its process is killed. Afterwards all
sessions are closed, and what is left is compared with what was there before. Prints one JSON object; status 1 if anything
is left.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from sessiond.daemon.logs import set_up_logs
from sessiond.daemon.server.app import App
from sessiond.daemon.settings import load_settings
from sessiond.v1 import session_service_pb2 as pb
from sessiond.v1 import session_service_pb2_grpc

SETTLE_S = 60.0
"""How long what was cut off may take to be over."""
LOAD = Path(__file__).with_name("vanish_load.py")


@dataclass(frozen=True)
class Held:
    """What a daemon holds at one moment."""

    tasks: int
    files: int
    """Open ones of the daemon."""
    engine_files: int
    sessions: int
    opening: int
    """Sessions that are being opened, or given up while they were."""
    branches: int
    """Of the engine's token trees, which were compared with the backend."""
    memory_tier: int
    """Bytes of KV that left its cells."""
    cells: int
    """Bytes."""
    calls: int
    """That the border counts as running."""


@dataclass(frozen=True)
class Findings:
    """What was there before the clients came, after they had gone, and what they did."""

    before: Held
    after: Held
    did: dict[str, int]
    resident_mib: dict[str, tuple[int, int]]
    """Of daemon and engine, before and after."""

    @property
    def left(self) -> dict[str, tuple[int, int]]:
        """What is more than before."""
        pairs = ((name, getattr(self.before, name), getattr(self.after, name)) for name in asdict(self.after))
        return {name: (before, after) for name, before, after in pairs if after > before}


class Watched:
    """A daemon in this process, and what it holds."""

    def __init__(self, folder: Path, model: str) -> None:
        self.socket = folder / "s.sock"
        given: dict[str, Any] = {
            "socket": self.socket,
            "model": model,
            "state_dir": folder / "state",
            "token": "",
        }
        (folder / "sessiond.toml").touch()  # an empty one: the user's own settings are not meant
        settings = load_settings(given | {"measure": False, "max_sessions": 64}, folder / "sessiond.toml")
        self._app = App(settings)
        self._registry: Any = vars(self._app)["_registry"]  # nobody outside can count what is inside
        self._process = psutil.Process()

    async def run(self) -> None:
        """Until `stop`."""
        await self._app.run()

    def stop(self) -> None:
        """As SIGTERM does."""
        os.kill(os.getpid(), signal.SIGTERM)

    async def held(self) -> Held:
        """Now, once the engine agrees with its backend."""
        gc.collect()
        [engine] = self._registry.pool.loaded()
        checked = await engine.check()
        return Held(
            tasks=len(asyncio.all_tasks()),
            files=self._process.num_fds(),
            engine_files=psutil.Process(engine.process.pid).num_fds(),
            sessions=len(self._registry.all()),
            opening=self._registry._making + len(self._registry._opening) + len(self._registry._dropping),  # noqa: SLF001 - as above
            branches=len(checked.residence),
            memory_tier=checked.memory_tier,
            cells=self._registry.memory.taken,
            calls=self._app.boundary.gate.calls,
        )

    def resident(self) -> tuple[int, int]:
        """MiB of daemon and engine."""
        [engine] = self._registry.pool.loaded()
        processes = (self._process, psutil.Process(engine.process.pid))
        daemon, child = (int(process.memory_info().rss) >> 20 for process in processes)
        return daemon, child

    def serves(self) -> bool:
        """Whether the model is loaded."""
        return bool(self._registry.pool.loaded()) and self.socket.exists()

    async def close_all(self) -> None:
        """Close what clients left open, as one of them would."""
        import grpc

        async with grpc.aio.insecure_channel(f"unix:{self.socket}") as channel:
            stub = session_service_pb2_grpc.SessionServiceStub(channel)
            for session in (await stub.ListSessions(pb.ListSessionsRequest())).sessions:
                await stub.CloseSession(pb.CloseSessionRequest(name=session.name))


async def _load(socket: Path, root: Path, clients: int, at_once: int, seed: int) -> dict[str, int]:
    asked = [str(socket), str(root), str(clients), str(at_once), str(seed)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(LOAD), *asked, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"the clients ended with status {process.returncode}")
    did: dict[str, int] = json.loads(told)
    return did


async def _settled(held: Callable[[], Awaitable[Held]], wanted: Held) -> Held:
    """What is held once it is no more than it was, or when the time is over."""
    until = asyncio.get_running_loop().time() + SETTLE_S
    while True:
        now = await held()
        over = all(getattr(now, name) <= getattr(wanted, name) for name in asdict(now))
        if over or asyncio.get_running_loop().time() > until:
            return now
        await asyncio.sleep(0.1)


async def vanish(model: str, clients: int, at_once: int, seed: int) -> Findings:
    """Run the daemon, have the clients come and go, and compare."""
    with tempfile.TemporaryDirectory(prefix="sd-") as name:
        folder = Path(name)
        root = folder / "workspace"
        root.mkdir()
        (root / "a.py").write_text("def a():\n    return 1\n", encoding="utf-8")
        watched = Watched(folder, model)
        daemon = asyncio.create_task(watched.run())
        try:
            while not watched.serves():
                if daemon.done():
                    daemon.result()
                await asyncio.sleep(0.05)
            # What is made once and kept is there after the first few: threads, caches, the watcher.
            await _load(watched.socket, root, 2 * at_once, at_once, seed + 1)
            await watched.close_all()
            before, resident = await _calm(watched), watched.resident()
            did = await _load(watched.socket, root, clients, at_once, seed)
            await watched.close_all()
            after = await _settled(watched.held, before)
            grown = zip(("daemon", "engine"), resident, watched.resident(), strict=True)
            return Findings(before, after, did, {name: (old, new) for name, old, new in grown})
        finally:
            if not daemon.done():
                watched.stop()
            await daemon


async def _calm(watched: Watched) -> Held:
    """What is held when it no longer changes."""
    held = await watched.held()
    while True:
        await asyncio.sleep(1.0)
        held, earlier = await watched.held(), held
        if held == earlier:
            return held


def main() -> int:
    """Come, vanish and print; 1 if something is left."""
    parser = argparse.ArgumentParser(description="Does the daemon keep anything of clients that vanish?")
    parser.add_argument("--model", default="scripted-kv:num_ctx=2048,step_ms=2", help="name or path")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    set_up_logs("json", "error")
    found = asyncio.run(vanish(asked.model, asked.clients, asked.at_once, asked.seed))
    sys.stdout.write(json.dumps(asdict(found) | {"left": found.left}) + "\n")
    return 1 if found.left else 0


if __name__ == "__main__":
    sys.exit(main())
