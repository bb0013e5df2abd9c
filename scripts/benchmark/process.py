"""A program that serves while we measure: started, waited for, ended."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.took import NotMeasured
from benchmark.unix_http import Address

START_SECONDS, END_SECONDS = 180.0, 10.0
_HEALTH_SECONDS = 5.0
_SHOWN = 600
"""Characters of the end of a log."""


class Program:
    """A running program. Raises NotMeasured if it does not serve."""

    def __init__(
        self,
        command: Sequence[str],
        address: Address,
        health: str,
        log: Path,
        environ: Mapping[str, str] | None = None,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self._log = log
        with log.open("wb") as words:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                env={**os.environ, **(environ or {})},
                start_new_session=True,  # a Ctrl-C is ours to hear; we end it then
            )
        try:
            self._wait(address, health, start_seconds)
        except BaseException:
            self.close()
            raise

    @property
    def ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def last_words(self) -> str:
        """The end of its log."""
        return self._log.read_text("utf-8", "replace")[-_SHOWN:].strip()

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait(self, address: Address, health: str, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not address.answers(health, _HEALTH_SECONDS):
            if self.ended or time.monotonic() > until:
                raise NotMeasured(f"it does not serve; the end of its log: {self.last_words()}")
            time.sleep(0.1)
