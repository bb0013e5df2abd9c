"""The bare loop in a process of its own, which sleeps while others work."""

from __future__ import annotations

import multiprocessing
from typing import cast

from benchmark.floor_loop import Ask, Caching, Phase, Ran, Refused, Setup, serve
from benchmark.took import NotMeasured

START_SECONDS, END_SECONDS = 300.0, 10.0


class FloorProcess:
    """See the module."""

    def __init__(self, setup: Setup) -> None:
        """Raises NotMeasured if the model or its context cannot be made."""
        start = multiprocessing.get_context("spawn")
        self._pipe, theirs = start.Pipe()
        self._process = start.Process(target=serve, args=(setup, theirs), daemon=True)
        self._process.start()
        theirs.close()  # so that its end is seen here
        if not self._pipe.poll(START_SECONDS):
            self.close()
            raise NotMeasured("the bare loop did not begin")
        try:
            self._received()
        except NotMeasured:
            self.close()
            raise

    def ran(self, asked: Ask) -> Ran:
        """What a run cost. Raises NotMeasured if llama.cpp refused, or the process died."""
        found = self._sent(asked)
        assert isinstance(found, Ran)
        return found

    def cached(self, asked: Caching) -> list[Phase]:
        """The steps of the prompt-caching table. Raises NotMeasured as `ran` does."""
        found = self._sent(asked)
        assert isinstance(found, list)
        return cast("list[Phase]", found)

    def _sent(self, asked: Ask | Caching) -> object:
        try:
            self._pipe.send(asked)
        except OSError as error:
            raise NotMeasured("the bare loop died") from error
        return self._received()

    def _received(self) -> object:
        try:
            found: object = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise NotMeasured("the bare loop died") from error
        if isinstance(found, Refused):
            raise NotMeasured(found.why)
        return found

    def close(self) -> None:
        """End it."""
        self._pipe.close()
        self._process.join(END_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
