"""The process that parses, as the daemon sees it.

A parser runs native code over files from anywhere. It cannot be interrupted, and faults in deep nests cost the square
of their number: 6 KB of `x=>` keep the grammar of C busy for four seconds, and 256 KB would for hours. In a process
of its own a limit on processor time and memory stops it, and the daemon goes on without that file.
"""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import Self

from sessiond.daemon.workspace.repo_map.definitions import Outline
from sessiond.daemon.workspace.repo_map.frames import Text, read_frame, write_frame


class Parser:
    """Makes outlines while its context is open. The process is started when first needed, and again if it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def outline(self, language: str, source: bytes) -> Outline:
        """The outline of a text in UTF-8: an empty one, `given_up`, if the process died of it.

        Raises OSError if no process can be started.
        """
        process = self._process = self._process or _start()
        assert process.stdin is not None and process.stdout is not None
        try:
            write_frame(process.stdin, Text(language, source))
            return read_frame(process.stdout, Outline)
        except (OSError, EOFError, ValueError):
            self._end()
            return Outline(given_up=True)

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        # Also closes the pipes. What could not be written to the dead process is no matter.
        self._process.communicate()
        self._process = None


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # -P: nothing that lies in the current folder is imported.
        [sys.executable, "-P", "-m", "sessiond.daemon.workspace.repo_map.worker"],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
