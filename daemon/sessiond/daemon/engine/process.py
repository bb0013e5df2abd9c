"""An engine process as the daemon sees it: started, talked to, watched.

What it writes to standard error is kept: its last words are the cause that sessions report when it dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable

import msgspec
import structlog

from sessiond.daemon.engine import wire
from sessiond.daemon.engine.overheard import Overheard
from sessiond.daemon.engine.threads import engine_environment

log = structlog.get_logger(__name__)

LAST_WORDS = 64
"""Lines of standard error that are kept."""
_QUOTED = 3
"""Lines of these that a cause quotes."""
_FATAL = ("Fatal Python error", "GGML_ASSERT", "terminate called")
"""What stands in the line in which a native fault says what it was; a stack follows it."""


_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
"""Signals that somebody sends, and no fault raises."""


class EngineDied(Exception):
    """The process ended. `cause` says how; `signal_number` is set if a signal ended it."""

    def __init__(self, cause: str, signal_number: int | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.signal_number = signal_number

    @property
    def is_from_outside(self) -> bool:
        """Whether somebody ended it, as a kernel that is out of memory or a stop of the whole service: that says nothing of
        the model, or of the build.
        """
        return self.signal_number in _FROM_OUTSIDE


class EngineFailed(Exception):
    """The engine answered Failed. The fields are those of `wire.Failed`."""

    def __init__(self, failed: wire.Failed) -> None:
        super().__init__(failed.message)
        self.kind = failed.kind
        self.field = failed.field
        self.held = wire.unpack_tokens(failed.held)


class Call:
    """A command that was sent, and what comes back."""

    def __init__(self, process: EngineProcess, command_id: int) -> None:
        self._process = process
        self.id = command_id
        self._queue: asyncio.Queue[wire.AnyEvent | EngineDied] = asyncio.Queue()
        self.ended = False
        """Whether its end has come, be it that nobody has taken it yet."""
        self.over = False
        """Whether its end was taken."""

    def put(self, event: wire.AnyEvent | EngineDied) -> None:
        """This came for it."""
        self.ended = isinstance(event, wire.Done | wire.Failed | EngineDied)
        self._queue.put_nowait(event)

    async def next(self) -> wire.AnyEvent:
        """The next event; Done is the last. Raises EngineFailed or EngineDied, which are the last too."""
        event = await self._queue.get()
        if isinstance(event, EngineDied):
            self.over = True
            raise event
        if isinstance(event, wire.Failed):
            self.over = True
            raise EngineFailed(event)
        self.over = isinstance(event, wire.Done)
        return event

    async def end_early(self) -> wire.Answer:
        """Cancel the command and wait until it is over; its answer, if it was done before the cancel came. Else it raises as
        `next`.
        """
        self._process.cancel(self.id)
        try:
            while True:
                event = await self.next()
                if isinstance(event, wire.Done):
                    return event.answer
        finally:
            self.forget()

    def forget(self) -> None:
        """Stop listening."""
        self._process.forget(self.id)


class EngineProcess:
    """One child. Make it with `start`; after `ended` is set nothing is answered any more."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1)
        self._waiting: dict[int, Call] = {}
        self._words: deque[str] = deque(maxlen=LAST_WORDS)
        self.ended: EngineDied | None = None
        self.on_end: Callable[[EngineDied], None] = lambda _died: None
        self.on_event: Callable[[wire.AnyEvent], None] = lambda _event: None
        """Hears what answers no command."""
        self._tasks = [
            asyncio.create_task(self._listen(), name="engine events"),
            asyncio.create_task(self._overhear(), name="engine words"),
        ]
        self._watch = asyncio.create_task(self._watch_end(), name="engine end")

    @classmethod
    async def start(cls) -> EngineProcess:
        """Start a child that waits for its Load. Raises OSError where the machine has no room for one."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "sessiond.daemon.engine",
                    str(theirs.fileno()),
                    pass_fds=[theirs.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    env=engine_environment(),
                )
        except BaseException:
            ours.close()
            raise
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, reader, writer)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def next_id(self) -> int:
        """An id for a command."""
        return next(self._ids)

    def call(self, command: wire.AnyCommand) -> Call:
        """Send a command. Raises EngineDied."""
        if self.ended is not None:
            raise self.ended
        call = self._waiting[command.id] = Call(self, command.id)
        self._writer.write(wire.encode(command))
        return call

    async def ask(self, command: wire.AnyCommand) -> wire.Answer:
        """Send a command and wait for its end. Raises EngineFailed, EngineDied."""
        call = self.call(command)
        try:
            while True:
                event = await call.next()
                if isinstance(event, wire.Done):
                    return event.answer
        finally:
            call.forget()

    def forget(self, command_id: int) -> None:
        """Nobody listens to this command any more."""
        self._waiting.pop(command_id, None)

    def cancel(self, job: int) -> None:
        """End a job soon; it answers Failed("cancelled")."""
        if self.ended is None:
            self._writer.write(wire.encode(wire.Cancel(self.next_id(), job)))

    async def stop(self, patience: float = 5.0) -> None:
        """End the child: hang up, and after `patience` seconds kill."""
        self._writer.close()
        try:
            await asyncio.wait_for(asyncio.shield(self._watch), patience)
        except TimeoutError:
            self.kill(signal.SIGKILL)
            await self._watch

    def kill(self, number: int) -> None:
        """Send the child a signal."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _listen(self) -> None:
        try:
            while True:
                head = await self._reader.readexactly(wire.PREFIX.size)
                (size,) = wire.PREFIX.unpack(head)
                if size > wire.MAX_FRAME:
                    raise msgspec.ValidationError("a frame is too long")
                event = wire.decode_event(await self._reader.readexactly(size))
                if isinstance(event, wire.Failed):
                    wire.unpack_tokens(event.held)  # ragged bytes are nonsense too, and are noticed here
                if event.id == wire.UNASKED:
                    self.on_event(event)
                call = self._waiting.get(event.id)
                if call is not None:
                    call.put(event)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        except msgspec.DecodeError as error:
            log.error("engine.nonsense", error=str(error), pid=self.pid)
            self.kill(signal.SIGKILL)

    async def _overhear(self) -> None:
        # Read as it comes, not line by line: a line without end must not stop us from reading, or the engine would
        # block on a full pipe.
        assert self._process.stderr is not None
        rest, overheard = "", Overheard(self.pid)
        while data := await self._process.stderr.read(1 << 16):
            *lines, rest = (rest + data.decode("utf-8", "replace"))[-(1 << 17) :].split("\n")
            for line in filter(str.strip, lines):
                self._words.append(line.strip())
                overheard.take(line.strip())
        if rest.strip():
            self._words.append(rest.strip())

    async def _watch_end(self) -> None:
        code = await self._process.wait()
        # A moment for what it still wrote; a grandchild may hold the pipes open, so not for ever.
        await asyncio.wait(self._tasks, timeout=1.0)
        for task in self._tasks:
            task.cancel()
        self.ended = _died(code, list(self._words))
        for call in self._waiting.values():
            call.put(self.ended)
        self.on_end(self.ended)


def _died(code: int, words: list[str]) -> EngineDied:
    said = f"; last words: {' | '.join(_telling(words))}" if words else ""
    if code >= 0:
        return EngineDied(f"the engine ended with exit code {code}{said}")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    return EngineDied(f"the engine was ended by signal {name}{said}", -code)


def _telling(words: list[str]) -> list[str]:
    """The lines from the one that names a fault on; without one, the last."""
    named = next((i for i, line in enumerate(words) if any(mark in line for mark in _FATAL)), None)
    return words[-_QUOTED:] if named is None else words[named : named + _QUOTED]
