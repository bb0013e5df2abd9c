"""The process that renders: `python -m sessiond.daemon.engine.template_worker`, started by `rendering`.

It reads questions, a line of JSON each, and answers each with a line: the pieces, or what is wrong. Where a template takes
too much time, the process dies of it.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
from typing import IO

from sessiond.daemon.engine.frames import FrameError, frame

SECONDS = 2.0
"""What an answer may take of the processor: enough for 4,096 messages in every template that the tests have."""
MAX_MEMORY = 1 << 29
"""Bytes of address space."""


def serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    """Answers each question, in order."""
    for line in questions:
        source, roles, eos_text, bos_text = json.loads(line)
        # SIGPROF is not handled: it ends the process, also in the midst of native code. The time of the processor
        # counts, so that the answer does not depend on what else the machine does.
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        answer: list[str] | str
        try:
            answer = frame(source, roles, eos_text, bos_text)
        except FrameError as error:
            answer = str(error) or "the template failed"
        answers.write(json.dumps(answer).encode() + b"\n")
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.flush()


def main() -> None:
    """Serve standard input and output, within limits."""
    # Ctrl-C reaches every process of a terminal's group; the engine decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Not every system has this limit.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
