"""A side rests when none of its processes works any more, those below the first one among them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

from benchmark.quiet import STILL_S, wait_until_still

WORKS = """
import subprocess, sys, time
below = "import time; print(flush=True); end = time.monotonic() + {0}\\nwhile time.monotonic() < end: pass\\ntime.sleep(60)"
subprocess.run([sys.executable, "-c", below])
"""


@contextmanager
def working(seconds: float) -> Generator[subprocess.Popen[bytes]]:
    """A process whose child computes for so long and sleeps then."""
    command = [sys.executable, "-c", WORKS.format(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # before that it waits for the disk, which has Python's modules
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_what_a_child_does_is_waited_for() -> None:
    with working(1.0) as process:
        begun = time.monotonic()
        assert wait_until_still(process.pid, 60.0)
        assert time.monotonic() - begun >= 1.0 + STILL_S / 2


def test_who_never_rests_is_not_waited_for_without_end() -> None:
    with working(60.0) as process:
        begun = time.monotonic()
        assert not wait_until_still(process.pid, 1.0)
        assert time.monotonic() - begun >= 1.0


def test_a_process_that_is_gone_is_still() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert wait_until_still(process.pid, 10.0)
