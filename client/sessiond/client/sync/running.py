"""Calls as they run on gRPC's threads: `begin` and `cancel` are work for a Backstage, the rest is for the caller.

They do not know the object that the caller holds, so that dropping that one can be seen; and they let go of gRPC's call
at its end, so that it is not the caller's thread that takes it apart.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol

import grpc

from sessiond.client import threads
from sessiond.client.endpoint import Endpoint
from sessiond.client.failures import exception_of
from sessiond.client.transport import Metadata


class _One(Protocol):
    """A call of gRPC with one answer."""

    def add_done_callback(self, fn: Callable[[Any], None]) -> None: ...

    def cancel(self) -> bool: ...


class _Many(Protocol):
    """A call of gRPC with many answers."""

    def __next__(self) -> Any: ...

    def cancel(self) -> bool: ...


class RunningUnary:
    """A call with one answer."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._call: _One | None = None
        self._outcome: SimpleQueue[tuple[Any, Metadata] | Exception] = SimpleQueue()

    def begin(self, start: Callable[[], _One]) -> None:
        """Start the call. If that fails, this is its outcome."""
        try:
            self._call = start()
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            self._outcome.put(error)
        else:
            self._call.add_done_callback(self._ended)

    def cancel(self) -> None:
        """Cancel the call if it was begun."""
        call = self._call
        if call is not None:
            call.cancel()

    def wait(self) -> tuple[Any, Metadata]:
        """The answer, and the first metadata that came with it. Raises what the call failed with."""
        return threads.given(threads.wait_for(self._outcome))

    def _ended(self, call: Any) -> None:
        self._call = None
        self._outcome.put(threads.outcome_of(lambda: self._told(call)))

    def _told(self, call: Any) -> tuple[Any, Metadata]:
        if call.code() is not grpc.StatusCode.OK:
            raise exception_of(call, self._endpoint) from call
        return call.result(), tuple(call.initial_metadata())


class RunningStream:
    """A call with many answers. A thread of its own reads each one when it is asked for."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.closed = False
        self._endpoint = endpoint
        self._call: _Many | None = None
        self._unbegun: Exception | None = None
        self._asked: SimpleQueue[bool] = SimpleQueue()
        self._outcomes: SimpleQueue[Any] = SimpleQueue()

    def begin(self, start: Callable[[], _Many]) -> None:
        """Start the call. If that fails, the stream ends with it."""
        try:
            self._call = start()
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            self._unbegun = error
        threads.start(self._read)

    def cancel(self) -> None:
        """Cancel the call if it still runs, and end the thread."""
        call = self._call
        if call is not None:
            call.cancel()
        self._asked.put(False)

    def next(self) -> Any:
        """The next answer. Raises what the call failed with, or StopIteration; the same again if it is asked again."""
        if self.closed:
            raise StopIteration
        self._asked.put(True)
        return threads.given(threads.wait_for(self._outcomes))

    def _read(self) -> None:
        while self._asked.get():
            self._outcomes.put(threads.outcome_of(self._read_one))
        self._call = None
        self._outcomes.put(StopIteration())  # for who asked while it was closed

    def _read_one(self) -> Any:
        if self._call is None:
            raise self._unbegun or StopIteration
        try:
            return next(self._call)  # at its end it raises the same each time
        except grpc.RpcError as error:
            if self.closed:  # what is read here is our own cancelling
                raise StopIteration from None
            raise exception_of(error, self._endpoint) from error
