"""The process that renders templates, as an engine sees it.

A template comes with a model file from anywhere. The sandbox keeps it from our objects, and not from our time and memory:
`'a' * 10**9`, a loop in a loop, or a hundred replacements of replacements run in C, where nothing interrupts them. In a
process of its own limits on processor time and memory end it, and the engine goes on without that template.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

from sessiond.daemon.engine.frames import MAX_RENDERED, NAMED, FrameError, frame, source_digest

PATIENCE = 3
"""After so many ends of the process a template is refused unread: it would keep all others waiting."""
MAX_ANSWER = 16 * MAX_RENDERED
"""Bytes of one answer: JSON in ASCII has at most 12 of them for a character."""


class Renderer:
    """Frames by template. The process is started when first needed, and again if it died. One thread at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._ends: Counter[str] = Counter()

    def frame(self, source: str, roles: Sequence[str], eos_text: str, bos_text: str) -> list[str]:
        """As `frames.frame`, within limits. Raises FrameError, also for what goes beyond them."""
        if not source or source in NAMED.values():
            return frame(source, roles, eos_text, bos_text)  # our own
        digest = source_digest(source)
        if self._ends[digest] < PATIENCE:
            found = self._ask([source, list(roles), eos_text, bos_text])
            if isinstance(found, str):
                raise FrameError(found)
            if found is not None:
                return found
            self._ends[digest] += 1
        raise FrameError("the template takes too much time or memory")

    def close(self) -> None:
        """End the process. It would end by itself when the engine does."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()  # also closes the pipes
            self._process = None

    def _ask(self, question: object) -> list[str] | str | None:
        """The pieces, or what is wrong; None if the process died of it."""
        process = self._process = self._process or _start()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline(MAX_ANSWER)
            if line.endswith(b"\n"):
                answer: list[str] | str = json.loads(line)
                return answer
        except OSError:
            pass
        self.close()
        return None


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
        raise FrameError(f"no process can be started for the template: {error}") from error
