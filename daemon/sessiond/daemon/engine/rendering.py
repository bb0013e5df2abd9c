"""The process that renders templates, as an engine sees it.

A template comes with a model file from anywhere. The sandbox keeps it from our objects, and not from our time and memory:
`'a' * 10**9`, a loop in a loop, or a hundred replacements of replacements run in C, where nothing interrupts them. In a
process of its own limits on processor time and memory end it, and the engine goes on without that template.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

from sessiond.adapters.base import BackendError
from sessiond.daemon.engine.frames import MAX_RENDERED, NAMED, FrameError, frame, source_digest

PATIENCE = 3
"""After so many ends of the process in a row a template is refused unread for as many messages, and for more: it would keep
all others waiting.
"""
MAX_ANSWER = 16 * MAX_RENDERED
"""Bytes of one answer: JSON in ASCII has at most 12 of them for a character."""


class Renderer:
    """Frames by template. The process is started when first needed, and again if it died. One thread at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._ends: Counter[tuple[str, int]] = Counter()
        """How often the process ended over a template and so many messages since it last framed these."""

    def frame(self, source: str, roles: Sequence[str], eos_text: str, bos_text: str) -> list[str]:
        """As `frames.frame`, within limits. Raises FrameError, also for what goes beyond them, and BackendError if no process
        can be started.
        """
        if not source or source in NAMED.values():
            return frame(source, roles, eos_text, bos_text)  # our own
        digest, size = source_digest(source), len(roles)
        if not self._is_refused(digest, size):
            found = self._ask([source, list(roles), eos_text, bos_text])
            if found is None:
                self._ends[digest, size] += 1
            else:
                self._ends.pop((digest, size), None)
            if isinstance(found, str):
                raise FrameError(found)
            if found is not None:
                return found
        raise FrameError("the template takes too much time or memory")

    def _is_refused(self, digest: str, size: int) -> bool:
        """What is too much for few messages is so for many, and not the other way round."""
        return any(
            ends >= PATIENCE and known == digest and least <= size
            for (known, least), ends in self._ends.items()
        )

    def close(self) -> None:
        """End the process. It would end by itself when the engine does."""
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(OSError):  # of a question that it never read
                self._process.communicate()  # also closes the pipes
            self._process = None

    def _ask(self, question: object) -> list[str] | str | None:
        """The pieces, or what is wrong; None if the process died of it."""
        process = self._put(json.dumps(question).encode() + b"\n")
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            line = process.stdout.readline(MAX_ANSWER)
            if line.endswith(b"\n"):
                answer: list[str] | str = json.loads(line)
                return answer
        self.close()
        return None

    def _put(self, line: bytes) -> subprocess.Popen[bytes]:
        """A process that has the whole question. One that ended before is no fault of the template."""
        if self._process is not None and self._process.poll() is None and _written(self._process, line):
            return self._process
        self.close()
        process = self._process = _start()
        if _written(process, line):
            return process
        self.close()
        raise BackendError("the process for the template ended before it was asked anything")


def _written(process: subprocess.Popen[bytes], line: bytes) -> bool:
    assert process.stdin is not None
    try:
        process.stdin.write(line)
        process.stdin.flush()
    except OSError:
        return False
    return True


def _start() -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            # -P: nothing that lies in the current folder is imported.
            [sys.executable, "-P", "-m", "sessiond.daemon.engine.template_worker"],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        raise BackendError(f"no process can be started for the template: {error}") from error
