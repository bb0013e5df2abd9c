#!/usr/bin/env python3
"""What it costs to keep a large checkout hot while nothing happens in it: the CPU time of daemon and engine at rest.

    .venv/bin/python scripts/watch_rest.py [--files 10000] [--seconds 60] [--model scripted-kv:num_ctx=8192]

A session is brought to the prefix of a generated checkout and kept hot. A save is waited for, so that watching is seen
to work; then nothing happens, and the CPU time of both processes is read before and after. The limit is one percent of
a core for both together. Prints one JSON object; status 1 if it is exceeded.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import psutil

from demo_daemon import own_daemon
from sessiond.client import Client, Config

LIMIT = 0.01
"""Of one core."""
FILES_EACH = 50
"""In one folder."""
SETTLE_S = 5.0
"""Between the last change and the first reading."""
PATIENCE_S = 120.0
WINDOW = 8192
"""Tokens. What does not fit is watched all the same."""


def generate(root: Path, files: int) -> Path:
    """A checkout of so many files; returns one of them."""
    for number in range(files):
        folder = root / f"package{number // FILES_EACH}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"module{number}.py").write_text(f"def value_{number}() -> int:\n    return {number}\n")
    return root / "package0" / "module0.py"


def wait_until_hot(client: Client, root: Path, file: Path) -> None:
    """Until a save, which nobody asks about, was prefilled in the background. Raises TimeoutError."""
    session = client.open_session(workspace_root=root, config=Config(num_ctx=WINDOW))
    session.ensure_prefix(workspace=True)
    until = time.monotonic() + PATIENCE_S
    for turn in range(1_000_000):
        file.write_text(f"def value_0() -> int:\n    return {-turn}\n")
        time.sleep(SETTLE_S)
        if session.ensure_prefix(workspace=True).status.prefilled_tokens == 0:
            return
        if time.monotonic() > until:
            break
    raise TimeoutError("no save was prefilled in the background")


def cpu_seconds(process: psutil.Process) -> float:
    """That it has used so far, in its own code and in the kernel's."""
    times = process.cpu_times()
    return times.user + times.system


def measure(model: str, files: int, seconds: float) -> dict[str, object]:
    """All of it."""
    with tempfile.TemporaryDirectory(prefix="sd-") as made:
        folder, root = Path(made), Path(made) / "root"
        file = generate(root, files)
        with own_daemon(folder, model) as client:
            wait_until_hot(client, root, file)
            state = client.workspace(root).get()
            time.sleep(SETTLE_S)
            [daemon] = psutil.Process().children()
            processes = {"daemon": [daemon], "engine": daemon.children(recursive=True)}
            began = time.monotonic()
            before = {name: sum(map(cpu_seconds, each)) for name, each in processes.items()}
            time.sleep(seconds)
            took = time.monotonic() - began
            used = {name: sum(map(cpu_seconds, each)) - before[name] for name, each in processes.items()}
    return {
        "files": files,
        "seconds": took,
        "watcher_state": state.watcher_state,
        "keep_hot_state": state.keep_hot_state,
        "daemon_share": used["daemon"] / took,
        "engine_share": used["engine"] / took,
        "share": sum(used.values()) / took,
        "limit": LIMIT,
    }


def main() -> int:
    """Measure and print; 1 if the limit is exceeded."""
    parser = argparse.ArgumentParser(description="What watching and keeping hot cost at rest.")
    parser.add_argument("--model", default=f"scripted-kv:num_ctx={WINDOW}", help="name or path")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    asked = parser.parse_args()
    told = measure(asked.model, asked.files, asked.seconds)
    sys.stdout.write(json.dumps(told) + "\n")
    share = told["share"]
    assert isinstance(share, float)
    return 0 if share <= LIMIT and told["watcher_state"] == "watching" else 1


if __name__ == "__main__":
    sys.exit(main())
