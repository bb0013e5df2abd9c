"""The process that parses: `python -m sessiond.daemon.workspace.repo_map.worker`, started by `parser`.

It reads texts from its standard input and writes their outlines to its standard output, until the input ends. Where
a text takes too much time or memory, the process dies of it.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
from typing import IO

from sessiond.daemon.workspace.repo_map.definitions import outline
from sessiond.daemon.workspace.repo_map.frames import Text, read_frame, write_frame
from sessiond.daemon.workspace.repo_map.languages import load

SECONDS = 0.5
SECONDS_A_BYTE = 10e-6
"""What a text may take of the processor; together more than ten times what one takes that somebody wrote."""
MAX_MEMORY = 2 * 1024 * 1024 * 1024
"""Bytes of address space."""


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answers each text, in order."""
    with contextlib.suppress(EOFError):
        while True:
            text = read_frame(requests, Text)
            load(text.language)
            # SIGPROF is not handled: it ends the process, also in the midst of native code. The time of the processor
            # counts, so that the answer does not depend on what else the machine does.
            signal.setitimer(signal.ITIMER_PROF, SECONDS + len(text.source) * SECONDS_A_BYTE)
            answer = outline(text.language, text.source)
            signal.setitimer(signal.ITIMER_PROF, 0)
            write_frame(answers, answer)


def main() -> None:
    """Serve standard input and output, within limits."""
    # Ctrl-C reaches every process of a terminal's group; the daemon decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Not every system has this limit.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
