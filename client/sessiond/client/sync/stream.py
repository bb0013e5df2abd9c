"""The parts of a streamed answer, as a user of the blocking client holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from sessiond.client.sync.backstage import Backstage
from sessiond.client.sync.running import RunningStream

Part_co = TypeVar("Part_co", covariant=True)


class Stream(Iterator[Part_co], Generic[Part_co]):
    """The parts of an answer as they come. The call runs from the start; closing or dropping the stream cancels it."""

    def __init__(
        self, backstage: Backstage, running: RunningStream, pick: Callable[[Any], Part_co | None]
    ) -> None:
        self._backstage = backstage
        self._running = running
        self._pick: Callable[[Any], Part_co | None] = pick

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Part_co:
        while True:
            part = self._pick(self._running.next())
            if part is not None:
                return part

    def close(self) -> None:
        """Cancel the call if it still runs, and end the stream. May be called from another thread."""
        self._running.closed = True
        self._backstage.leave(self._running.cancel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_pick"):  # else something was raised while this was made
            self.close()
