"""What goes into a bundle, by the names of its files."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from sessiond.client.support.figures import figures
from sessiond.client.support.log_end import log_end
from sessiond.client.support.machine import machine
from sessiond.client.sync import Client
from sessiond.v1.errors import SessiondError
from sessiond.v1.model_service_pb2 import BackendFacts, GetRuntimeResponse, SupportFacts

TIMEOUT_S = 10.0
_PACKAGES = ("sessiond", "grpcio", "protobuf", "click", "rich", "platformdirs")
_ABOUT = """\
A support bundle of sessiond.

versions.json   of the client and of the daemon
machine.json    what the machine is
status.json     what the daemon says of itself: figures only
settings.json   its settings: numbers, switches and choices; of all others only whether they were given
backends.json   the backends of the loaded models
metrics.txt     its metrics, as Prometheus reads them
log.jsonl       the end of its log: when, how bad, what, and numbers

Left out everywhere: source text, prompts, answers, paths, names of files, models and sessions that somebody chose, and
tokens. Please look through it before you send it: it is text.
"""


@dataclass(slots=True)
class Collected:
    """The files by name, and why some are missing."""

    files: dict[str, str] = field(default_factory=dict[str, str])
    missing: dict[str, str] = field(default_factory=dict[str, str])
    """By file: the reason of an error, and nothing else that it said."""

    def take(self, name: str, make: Callable[[], str]) -> None:
        """Make a file. An error is noted: the others are wanted all the same."""
        try:
            self.files[name] = make()
        except (SessiondError, TimeoutError, OSError) as error:
            self.missing[name] = error.reason if isinstance(error, SessiondError) else type(error).__name__


def collect(client: Client, log: Path) -> Collected:
    """Ask the daemon, if there is one, and the machine. Starts nothing and loads nothing."""
    found = Collected()
    told: list[GetRuntimeResponse] = []
    found.take("status.json", lambda: _json(_status(client, told)))
    support = told[0].support if told and told[0].HasField("support") else None
    found.take("versions.json", lambda: _json(_versions(support)))
    found.take("machine.json", lambda: _json(machine()))
    if support is not None:
        found.take("settings.json", lambda: _json(dict(support.settings)))
        found.take("backends.json", lambda: _json([_backend(each) for each in support.backends]))
        found.take("metrics.txt", lambda: support.metrics)
    found.take("log.jsonl", lambda: _log(log))
    absent = "".join(f"{name}: {why}\n" for name, why in found.missing.items())
    found.files["README.txt"] = _ABOUT + (f"\nMissing here, and why:\n\n{absent}" if absent else "")
    return found


def _status(client: Client, told: list[GetRuntimeResponse]) -> dict[str, Any]:
    """What the daemon says of itself; its whole answer goes to `told`."""
    health, _version = client.health(timeout=TIMEOUT_S)
    runtime = client.runtime(support=True, timeout=TIMEOUT_S)
    told.append(runtime)
    return {"health": health, "runtime": figures(runtime)}


def _versions(support: SupportFacts | None) -> dict[str, Any]:
    client = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            client[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {"client": client, "daemon": dict(support.versions) if support is not None else None}


def _backend(told: BackendFacts) -> dict[str, Any]:
    texts = {name: getattr(told, name) for name in ("backend", "backend_version", "model_digest")}
    return texts | figures(told)


def _log(path: Path) -> str:
    end = log_end(path)
    lines = [*end.records, *([{"unreadable_lines": end.unreadable}] if end.unreadable else [])]
    return "".join(json.dumps(line) + "\n" for line in lines)


def _json(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
