#!/usr/bin/env python3
"""Random and spoilt requests to every rpc of a daemon, and anything as `.sessiond.toml`: does it stand?

    .venv/bin/python scripts/fuzz.py [--minutes 5] [--seed 1] [--clients 3] [--model NAME|PATH]

Several clients send what the seed makes of the contract's descriptors, some with a deadline that passes at once. A fault
is: an error without its reason, an internal error, a call that never ends, an engine that is another process than before,
a sound request that is not answered in between or afterwards. Prints one JSON object; status 1 if there was a fault.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import grpc
import psutil
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from demo_daemon import own_daemon
from fuzz_messages import Maker, Pool, Rpc, rpcs, spoilt
from sessiond.client import (
    Client,
    Config,
    DecodeConfig,
    InvalidInput,
    SessionBusy,
    SessionClosed,
    SessiondError,
    SessionUnavailable,
)
from sessiond.client.transport import OPTIONS
from sessiond.v1.status import DOMAIN

HANG_S = 120.0
"""No call takes that long, on however slow a machine."""
WATCH_S = 0.1
"""How long a watcher watches: its stream has no end of its own."""
HASTY = 0.15
"""Share of the calls that are given up almost at once."""
CHECK_EVERY = 50
"""Calls of a client between two sound ones."""
LOADING = frozenset(
    ("lora", "num_gpu_layers", "tensor_split", "main_gpu", "split_mode", "use_mmap", "use_mlock", "model")
)
"""Fields for each of whose values a process is started, or whatever model has such a name is loaded: left out, because
that takes long.
"""
TOML = """\
include = ["*.py", "sub/"]
exclude = ["*.log", "!keep.log"]
pinned = ["a.py"]
instructions = "sub/b.md"
budget = 1000
order = "path"
[map]
enabled = true
tokens = 50
"""


@dataclass
class Findings:
    """What was seen. `faults` are sentences; of the rest, how often."""

    seed: int
    calls: int = 0
    answered: int = 0
    configs: int = 0
    reasons: Counter[str] = field(default_factory=Counter[str])
    transport: Counter[str] = field(default_factory=Counter[str])
    """Codes that gRPC answered with by itself."""
    faults: list[str] = field(default_factory=list[str])
    resident_mib: list[int] = field(default_factory=list[int])
    """Of the daemon, at the beginning and at the end."""


class Fuzzer(threading.Thread):
    """One client. Whatever it sees goes into its own findings."""

    def __init__(self, folder: Path, seed: int, number: int, until: float, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.findings = Findings(seed)
        self._rng = random.Random(f"{seed} {number}")
        self._root = folder / "workspace"
        self._snapshot = str(folder / "a.snapshot")
        self._writes = number == 0
        self._until, self._stop_all = until, stop
        self._channel: Any = grpc.insecure_channel(f"unix:{folder / 'd.sock'}", OPTIONS)
        self._client = Client(folder / "d.sock", token="", timeout=HANG_S)
        self._rpcs = tuple(rpcs())
        self._pool = Pool(never=LOADING)
        self._maker = Maker(self._rng, self._pool)

    def run(self) -> None:
        """Until the time is over, or somebody found a fault."""
        with self._client, self._channel:
            try:
                while time.monotonic() < self._until and not self._stop_all.is_set():
                    if self.findings.calls % CHECK_EVERY == 0:
                        self._look()
                    self._once(self._rng.choice(self._rpcs))
            except Exception as error:  # noqa: BLE001 - whatever went wrong is what this script is to find
                self.findings.faults.append(f"{type(error).__name__}: {error}")
            if self.findings.faults:
                self._stop_all.set()

    def _look(self) -> None:
        """A sound question, the names that now mean something, and another configuration."""
        with contextlib.suppress(SessionUnavailable, SessionBusy, SessionClosed):  # others are at it too
            for key in ("a", "b"):
                self._client.open_session(key=key, config=Config(prompt_format="raw")).ensure_prefix("xyz")
        with contextlib.suppress(SessionUnavailable):
            self._client.define_function("f", "a body", config=DecodeConfig(max_tokens=4))
        sessions = [session.name for session in self._client.sessions()]
        self._pool.known = {
            "name": [*sessions, "f", "f", "g"],
            "workspace_root": ("", str(self._root), str(self._root / "sub"), str(self._root / "none")),
            "path": ("a.py", "sub/b.md", ".sessiond.toml", "new.py", "../out.py", self._snapshot),
            "paths": ("a.py", "sub/b.md", "none.py"),
            "key": ("a", "b"),
            "prompt_format": ("", "raw", "chatml"),
            "kv_cache_type": ("", "f16"),
            "role": ("user", "assistant", "system"),
            "samplers": ("top_k", "top_p", "temperature"),
        }
        if self._writes:
            self._configure()

    def _configure(self) -> None:
        """A spoilt configuration changes what is taken, and breaks nothing."""
        told = TOML.encode() if self._rng.random() < 0.1 else spoilt(self._rng, TOML.encode())
        (self._root / ".sessiond.toml").write_bytes(told)
        with contextlib.suppress(SessionUnavailable, InvalidInput):  # others opened or closed all there is
            self._client.open_session(self._root, key="configured")
            self._client.workspace(self._root).get()
            self.findings.configs += 1

    def _once(self, rpc: Rpc) -> None:
        data = self._maker.data(rpc.request)
        watches = rpc.path.endswith("/WatchSession")
        hasty = self._rng.random() < HASTY
        seconds = WATCH_S if watches else self._rng.random() * 0.02 if hasty else HANG_S
        self.findings.calls += 1
        try:
            if rpc.streams:
                for _ in self._channel.unary_stream(rpc.path)(data, timeout=seconds):
                    pass
            else:
                self._channel.unary_unary(rpc.path)(data, timeout=seconds)
        except grpc.RpcError as error:
            self._judge(rpc, data, cast("grpc.Call", error), may_expire=watches or hasty)
        else:
            self.findings.answered += 1

    def _judge(self, rpc: Rpc, data: bytes, error: grpc.Call, *, may_expire: bool) -> None:
        reason = _reason_of(error)
        if reason is not None and reason != SessiondError.reason:
            self.findings.reasons[reason] += 1
        elif reason is None and may_expire and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            self.findings.transport[error.code().name] += 1
        else:
            told = f"{error.code().name}: {error.details()}"
            self.findings.faults.append(f"{rpc.path} answered {told} to {data.hex()[:4000]}")


def _reason_of(error: grpc.Call) -> str | None:
    """The reason that the daemon gave; None where it did not speak."""
    status = cast("Any", rpc_status).from_call(error)
    info = error_details_pb2.ErrorInfo()
    if status is None or not status.details or not status.details[0].Unpack(info) or info.domain != DOMAIN:
        return None
    return str(info.reason)


def fuzz(model: str, seconds: float, seed: int, clients: int) -> Findings:
    """Run a daemon and the clients, and gather what they saw."""
    with tempfile.TemporaryDirectory(prefix="sd-") as name:
        folder = Path(name)
        (folder / "workspace" / "sub").mkdir(parents=True)
        (folder / "workspace" / "a.py").write_text("def a():\n    return 1\n", encoding="utf-8")
        (folder / "workspace" / "sub" / "b.md").write_text("# B\n", encoding="utf-8")
        (folder / "sessiond.toml").write_text("stall_timeout_s = 5.0\n", encoding="utf-8")
        with own_daemon(folder, model) as client:
            before = _engines(client)
            process = psutil.Process(int((folder / "d.sock.lock").read_text()))
            resident = [_mib(process)]
            total = _run(folder, seconds, seed, clients)
            total.resident_mib = [*resident, _mib(process)]
            total.faults += _afterwards(client, before, folder)
    return total


def _run(folder: Path, seconds: float, seed: int, clients: int) -> Findings:
    until, stop, total = time.monotonic() + seconds, threading.Event(), Findings(seed)
    load = [Fuzzer(folder, seed, number, until, stop) for number in range(clients)]
    for each in load:
        each.start()
    for each in load:
        each.join(seconds + 2 * HANG_S)
        if each.is_alive():
            total.faults.append("a call never ended")
        total.calls += each.findings.calls
        total.answered += each.findings.answered
        total.configs += each.findings.configs
        total.reasons += each.findings.reasons
        total.transport += each.findings.transport
        total.faults += each.findings.faults
    return total


def _afterwards(client: Client, before: set[tuple[str, int]], folder: Path) -> list[str]:
    """What no longer is as it should be."""
    faults: list[str] = []
    try:
        for session in client.sessions(timeout=HANG_S):
            client.session(session.name).close(timeout=HANG_S)
        sound = client.open_session(key="sound", config=Config(prompt_format="raw"), timeout=HANG_S)
        parts = list(sound.complete("xyz", prefix="xx", max_tokens=4, timeout=HANG_S))
        if not parts[-1].chunk.HasField("summary"):
            faults.append("a sound question was not answered to its end")
        sound.close(timeout=HANG_S)
        client.define_function("sound", "a body", config=DecodeConfig(choices=["yes"]), timeout=HANG_S)
        if "".join(chunk.text for chunk in client.call_function("sound", "xyz", timeout=HANG_S)) != "yes":
            faults.append("a sound function was not answered")
        for function in client.functions(timeout=HANG_S):
            client.delete_function(function.name, timeout=HANG_S)
        if not before <= _engines(client):
            faults.append(f"the engine is another one: {before} became {_engines(client)}")
    except Exception as error:  # noqa: BLE001 - as above
        faults.append(f"afterwards: {type(error).__name__}: {error}")
    log = (folder / "daemon.log").read_text("utf-8", "replace")
    for word in ("rpc.bug", "engine.died", "Traceback"):
        at = log.find(word)
        if at >= 0:
            faults.append(f"the log has {word!r}: {log[max(0, at - 1000) : at + 4000]}")
    return faults


def _engines(client: Client) -> set[tuple[str, int]]:
    return {(model.name, model.pid) for model in client.runtime(timeout=HANG_S).models}


def _mib(process: psutil.Process) -> int:
    return int(process.memory_info().rss) >> 20


def main() -> int:
    """Fuzz and print; 1 if there was a fault."""
    parser = argparse.ArgumentParser(description="Does the daemon stand whatever it is sent?")
    parser.add_argument("--model", default="scripted-kv:num_ctx=2048", help="name or path")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=3)
    asked = parser.parse_args()
    found = fuzz(asked.model, asked.minutes * 60, asked.seed, asked.clients)
    sys.stdout.write(json.dumps(vars(found)) + "\n")
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
