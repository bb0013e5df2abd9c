#!/usr/bin/env python3
"""Mixed load for some minutes: does the memory of daemon and engine stay flat?

    .venv/bin/python scripts/soak.py [--minutes 5] [--clients 4] [--model NAME|PATH]

Several clients over several workspaces edit, ask, append, fork, cancel, close and open again, at random. The resident
memory of both processes is sampled all the while. After a warm-up of a third of the time it may grow by five percent,
from the median of the second third to that of the last. Prints one JSON object; status 1 if it grew more, or if any
call failed in a way that it may not.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from demo_daemon import own_daemon
from sessiond.client import Client, Config, Session, SessionBusy, SessionUnavailable

WINDOW = 1024
"""Tokens. Cells that nobody has used yet take no memory, and what branches leave behind stays until room is needed: a
larger window would fill for longer than the warm-up.
"""
TIER_MB = 64
"""Of the memory tier, which fills by design: small, so that it is full when the warm-up ends."""
GROWTH = 1.05
WORKSPACES = 3
SESSIONS_EACH = 3
"""Sessions that one client holds at most."""
SAMPLE_S = 1.0
LINES = 20
LINE = "    value_{0} = compute({0}, previous=value_{1})\n"


@dataclass
class Tally:
    """What was done, and what went wrong."""

    turns: int = 0
    refused: int = 0
    faults: list[str] = field(default_factory=list[str])
    lock: threading.Lock = field(default_factory=threading.Lock)


class LoadClient(threading.Thread):
    """One client and its random turns."""

    def __init__(self, client: Client, roots: list[Path], seed: int, until: float, tally: Tally) -> None:
        super().__init__(daemon=True)
        self._client, self._roots, self._until, self._tally = client, roots, until, tally
        self._rng = random.Random(seed)
        self._seed = seed
        self._opened = 0
        self._sessions: list[Session] = []
        self._texts: dict[str, list[str]] = {}

    def run(self) -> None:
        """Until the time is over."""
        acts = [
            self._open,
            self._edit,
            self._edit,
            self._ask,
            self._ask,
            self._fork,
            self._cancel,
            self._close,
        ]
        while time.monotonic() < self._until:
            act = self._open if not self._sessions else self._rng.choice(acts)
            try:
                act()
            except (SessionBusy, SessionUnavailable):
                with self._tally.lock:
                    self._tally.refused += 1
            except Exception as error:  # noqa: BLE001 - whatever went wrong is what this script is to find
                with self._tally.lock:
                    self._tally.faults.append(f"{type(error).__name__}: {error}")
            with self._tally.lock:
                self._tally.turns += 1

    def _one(self) -> Session:
        return self._rng.choice(self._sessions)

    def _open(self) -> None:
        if len(self._sessions) >= SESSIONS_EACH:
            self._close()
        self._opened += 1
        root = self._rng.choice(self._roots)
        session = self._client.open_session(
            workspace_root=root, key=f"{self._seed}-{self._opened}", config=Config(num_ctx=WINDOW)
        )
        self._sessions.append(session)
        self._texts[session.name] = [LINE.format(i, i - 1) for i in range(LINES)]
        self._ensure(session)

    def _ensure(self, session: Session) -> None:
        session.ensure_prefix("".join(self._texts[session.name]))

    def _edit(self) -> None:
        session = self._one()
        lines = self._texts[session.name]
        lines[self._rng.randrange(len(lines))] = LINE.format(self._rng.randrange(9999), 0)
        self._ensure(session)

    def _ask(self) -> None:
        question = f"What is value_{self._rng.randrange(LINES)}?"
        with self._one().complete(question, mode="replace", max_tokens=self._rng.randrange(1, 24)) as parts:
            for _part in parts:
                pass

    def _fork(self) -> None:
        session = self._one()
        child = session.fork()
        with child.complete("And then?", max_tokens=4) as parts:
            for _part in parts:
                pass
        child.close()

    def _cancel(self) -> None:
        with self._one().complete("Tell me all.", mode="replace", max_tokens=64) as parts:
            for _, _part in zip(range(self._rng.randrange(1, 6)), parts, strict=False):
                pass

    def _close(self) -> None:
        session = self._sessions.pop(self._rng.randrange(len(self._sessions)))
        del self._texts[session.name]
        session.close()


@dataclass(frozen=True)
class Findings:
    """What a soak found."""

    turns: int
    refused: int
    faults: list[str]
    growth: dict[str, float]
    resident_mib: dict[str, int]


def soak(model: str, minutes: float, clients: int) -> Findings:
    """Run the load and sample."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="sd-") as name:
        folder = Path(name)
        roots = [folder / f"workspace {index}" for index in range(WORKSPACES)]
        for root in roots:
            root.mkdir()
        (folder / "sessiond.toml").write_text(f"memory_tier_mb = {TIER_MB}\n", encoding="utf-8")
        with own_daemon(folder, model) as client:
            client.model()  # loaded from here on
            until = time.monotonic() + minutes * 60
            load = [LoadClient(client, roots, seed, until, tally) for seed in range(clients)]
            for each in load:
                each.start()
            samples = _sample(int((folder / "d.sock.lock").read_text()), until)
            for each in load:
                each.join(120)
    third = len(samples["daemon"]) // 3
    growth = {
        name: statistics.median(sizes[2 * third :]) / statistics.median(sizes[third : 2 * third])
        for name, sizes in samples.items()
    }
    resident = {name: round(sizes[-1] / 2**20) for name, sizes in samples.items()}
    return Findings(tally.turns, tally.refused, tally.faults[:10], growth, resident)


def _sample(pid: int, until: float) -> dict[str, list[int]]:
    """Resident bytes of the daemon and of its engine, once a second."""
    daemon = psutil.Process(pid)
    [engine] = daemon.children()
    samples: dict[str, list[int]] = {"daemon": [], "engine": []}
    while time.monotonic() < until:
        samples["daemon"].append(int(daemon.memory_info().rss))
        samples["engine"].append(int(engine.memory_info().rss))
        time.sleep(SAMPLE_S)
    return samples


def main() -> int:
    """Soak and print; 1 if something grew or failed."""
    parser = argparse.ArgumentParser(description="Does memory stay flat under mixed load?")
    parser.add_argument("--model", default="", help="name or path; the embedded one if left out")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=4)
    asked = parser.parse_args()
    found = soak(asked.model, asked.minutes, asked.clients)
    sys.stdout.write(json.dumps(vars(found)) + "\n")
    return 1 if found.faults or max(found.growth.values()) > GROWTH else 0


if __name__ == "__main__":
    sys.exit(main())
