"""What an engine writes to its standard error, in the daemon's log."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from structlog.testing import capture_logs

from sessiond.adapters.base import ModelSettings
from sessiond.daemon.engine.disk.sayings import MARK, MOST
from sessiond.daemon.engine.engine import Engine, Tiers
from sessiond.daemon.engine.overheard import EVERY_S, MOST_WARNINGS, Overheard
from sessiond.daemon.engine.process import EngineProcess


async def test_a_folder_that_cannot_be_used_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "kv").write_text("no folder")
    with capture_logs() as logs:
        process = await EngineProcess.start()
        tiers = Tiers(disk=1 << 30, folder=tmp_path / "kv")
        await Engine.load(process, "scripted-kv", "scripted-kv:", ModelSettings(), lambda _: None, tiers)
        async with asyncio.timeout(20.0):
            while not any(each["event"] == "disk.says" for each in logs):  # noqa: ASYNC110 - a log tells nobody
                await asyncio.sleep(0.01)
        await process.stop(patience=0.5)
    [warning] = [each for each in logs if each["event"] == "disk.says"]
    assert warning["log_level"] == "warning" and str(tmp_path / "kv") in warning["line"]


async def test_whatever_else_it_says_is_for_who_looks_closely() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    script = f"echo {MARK}full >&2; echo llama says '{MARK}' >&2"
    with capture_logs() as logs:
        child = await asyncio.create_subprocess_exec("sh", "-c", script, stderr=asyncio.subprocess.PIPE)
        process = EngineProcess(child, reader, writer)
        theirs.close()
        await process._watch
    writer.close()
    assert [(each["log_level"], each["line"]) for each in logs] == [
        ("warning", "full"),
        ("debug", f"llama says {MARK.strip()}"),
    ]


def test_of_many_lines_few_are_warnings_and_each_is_short() -> None:
    now = 0.0
    overheard = Overheard(os.getpid(), lambda: now)

    def warned() -> int:
        with capture_logs() as logs:
            for _ in range(10 * MOST_WARNINGS):
                overheard.take(MARK + "x" * 100_000)
        warnings = [each for each in logs if each["log_level"] == "warning"]
        assert all(len(each["line"]) <= 2 * MOST for each in warnings)
        return len(warnings)

    assert (warned(), warned()) == (MOST_WARNINGS, 0)
    now += EVERY_S
    assert warned() == MOST_WARNINGS
