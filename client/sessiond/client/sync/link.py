"""One channel of the blocking client, and the only place that makes calls on it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import grpc

from sessiond.client.calls.call import Streaming, Unary
from sessiond.client.endpoint import Endpoint
from sessiond.client.failures import of_closed
from sessiond.client.sync.backstage import Backstage
from sessiond.client.sync.running import RunningStream, RunningUnary
from sessiond.client.sync.stream import Stream
from sessiond.client.transport import OPTIONS, Metadata, call_metadata, credentials_of

Part = TypeVar("Part")


def _open(endpoint: Endpoint) -> grpc.Channel:
    secure = credentials_of(endpoint)
    if secure is None:
        return grpc.insecure_channel(endpoint.target, OPTIONS)
    return grpc.secure_channel(endpoint.target, secure, OPTIONS)


class Link:
    """A connection to one daemon, with the time that a call may take if it gives none of its own."""

    def __init__(self, endpoint: Endpoint, timeout: float | None) -> None:
        self._endpoint = endpoint
        self._timeout = timeout
        self._metadata = call_metadata(endpoint)
        self._is_closed = False
        self._backstage = Backstage()
        self.channel = self._backstage.wait_for(partial(_open, endpoint))

    def unary(self, call: Unary[Part], timeout: float | None) -> Part:
        """What is picked of the one answer."""
        return self.unary_with_metadata(call, timeout)[0]

    def unary_with_metadata(self, call: Unary[Part], timeout: float | None) -> tuple[Part, Metadata]:
        """The same, and the first metadata that came with it."""
        running = RunningUnary(self._endpoint)
        try:
            start = partial(self._start_unary, call, timeout)
            self._backstage.leave(partial(running.begin, partial(self._started, start)))
            answer, metadata = running.wait()
        except BaseException:  # also what a signal's handler raises: nobody waits for the answer any more
            self._backstage.leave(running.cancel)
            raise
        return call.pick(answer), metadata

    def stream(self, call: Streaming[Part], timeout: float | None) -> Stream[Part]:
        """What is picked of each answer."""
        running = RunningStream(self._endpoint)
        made = Stream(self._backstage, running, call.pick)
        start = partial(self._start_stream, call, timeout)
        self._backstage.leave(partial(running.begin, partial(self._started, start)))
        return made

    def close(self) -> None:
        """Close the channel; what runs on it is cancelled."""
        self._is_closed = True
        self._backstage.wait_for(self.channel.close)

    def __del__(self) -> None:
        if hasattr(self, "channel"):  # else something was raised while this was made
            self._backstage.leave(self.channel.close)

    def _started(self, start: Callable[[], Any]) -> Any:
        # The backstage closes the channel too: it cannot be closed between this and the start.
        if self._is_closed:
            raise of_closed(self._endpoint)
        return start()

    def _start_unary(self, call: Unary[Any], timeout: float | None) -> Any:
        write, read = type(call.request).SerializeToString, call.answer.FromString
        method: grpc.UnaryUnaryMultiCallable[Any, Any] = self.channel.unary_unary(call.path, write, read)
        return method.future(call.request, timeout=self._within(timeout), metadata=self._metadata)

    def _start_stream(self, call: Streaming[Any], timeout: float | None) -> Any:
        write, read = type(call.request).SerializeToString, call.answer.FromString
        method: grpc.UnaryStreamMultiCallable[Any, Any] = self.channel.unary_stream(call.path, write, read)
        return method(call.request, timeout=self._within(timeout), metadata=self._metadata)

    def _within(self, timeout: float | None) -> float | None:
        return self._timeout if timeout is None else timeout
