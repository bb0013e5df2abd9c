"""What an engine process does with commands: it owns the model, its arenas, and the loop.

Three threads: the main one runs the loop; one reads commands; one does what needs no KV (tokens, frames), so that
a long text or a slow template keeps neither a cancel nor a decode waiting.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import msgspec

from sessiond.adapters.base import (
    BackendError,
    ContextSettings,
    KvContext,
    Model,
    ModelLoadError,
    NoRoom,
    Run,
    Sampling,
    SettingsError,
    Unsupported,
)
from sessiond.daemon.engine import frames, wire
from sessiond.daemon.engine.arena import Arena
from sessiond.daemon.engine.backends import adapters
from sessiond.daemon.engine.kv_arena import KvArena
from sessiond.daemon.engine.loop import Cancelled, Job, Loop, Rank
from sessiond.daemon.engine.prompt_arena import PromptArena
from sessiond.daemon.engine.text import TextAssembler
from sessiond.daemon.engine.work import Finish, Reuse, Work


@dataclass(slots=True)
class _Place:
    """Where a branch lives."""

    arena_name: str
    arena: Arena


class Worker:
    """One engine. `serve` returns when the daemon hangs up."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._sending = threading.Lock()
        self._loop = Loop()
        self._side = ThreadPoolExecutor(1, "side")
        self._places: dict[str, _Place] = {}
        self._arenas: dict[str, Arena] = {}

    def serve(self) -> None:
        """Load, then work until the daemon hangs up."""
        first = self._receive()
        if not isinstance(first, wire.Load):
            return
        try:
            self._model = self._load(first)
        except Exception as error:  # noqa: BLE001 - whatever a load dies of is told to the daemon
            self._failed(first.id, error)
            return
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        self._loop.run()
        self._side.shutdown(cancel_futures=True)
        self._model.close()

    def _load(self, command: wire.Load) -> Model:
        def progress(share: float) -> None:
            self._send(wire.Progress(command.id, int(share * 1000), 1000))

        model = adapters()[command.adapter].load(command.model, command.settings, progress)
        # The first decode happens here and now: if the build is faulty, it dies before any session has begun.
        context = model.new_context(ContextSettings(num_ctx=min(256, model.facts.num_ctx_train)))
        if isinstance(context, KvContext):
            tokens = model.tokenize("The first decode.", parse_special=False)[:64]
            context.decode([Run(0, 0, tokens, want_logits=True)])
            context.logits(0)
        context.close()
        context = model.new_context(ContextSettings())
        defaults = context.settings
        context.close()
        self._send(wire.Done(command.id, wire.Loaded(model.facts, defaults)))
        return model

    # Commands.

    def _read(self) -> None:
        try:
            while (command := self._receive()) is not None:
                self._take(command)
        finally:
            self._loop.stop()

    def _take(self, command: wire.AnyCommand) -> None:
        match command:
            case wire.Cancel():
                self._loop.cancel(command.job)
            case wire.Tokenize() | wire.Pieces() | wire.Frame():
                self._side.submit(self._answer, command.id, lambda: self._aside(command))
            case wire.Open():
                self._loop.call(lambda: self._answer(command.id, lambda: self._open(command)))
            case wire.Close():
                self._loop.call(lambda: self._close_when_idle(command))
            case wire.Advance() | wire.Generate() | wire.Logits():
                self._loop.call(lambda: self._submit(command))
            case wire.Load():
                raise RuntimeError("an engine loads once")

    def _aside(self, command: wire.Tokenize | wire.Pieces | wire.Frame) -> wire.Answer:
        match command:
            case wire.Tokenize():
                found = [
                    self._model.tokenize(text, parse_special=command.parse_special) for text in command.texts
                ]
                return wire.TokenLists([wire.pack_tokens(tokens) for tokens in found])
            case wire.Pieces():
                return wire.PieceList(self._model.pieces(wire.unpack_tokens(command.tokens)))
            case wire.Frame():
                vocab = self._model.facts.vocab
                source = frames.template_source(command.prompt_format, vocab.chat_template)
                pieces = frames.frame(source, command.roles, vocab.eos_text)
                return wire.Framed(pieces, frames.source_digest(source))

    def _open(self, command: wire.Open) -> wire.Answer:
        arena = self._arenas.get(command.arena)
        if arena is None:
            context = self._model.new_context(command.settings)
            arena = (
                KvArena(self._model, context)
                if isinstance(context, KvContext)
                else PromptArena(self._model, context)
            )
            self._arenas[command.arena] = arena
        arena.open(command.branch)
        self._places[command.branch] = _Place(command.arena, arena)
        return wire.Opened(arena.settings, arena.cell_bytes)

    def _close_when_idle(self, command: wire.Close) -> None:
        """A job must not find its branch gone: it is cancelled, and the close comes after it."""
        if jobs := self._loop.jobs_on(command.branch):
            for job in jobs:
                self._loop.cancel(job)
            self._loop.call(lambda: self._close_when_idle(command))
        else:
            self._answer(command.id, lambda: self._close(command))

    def _close(self, command: wire.Close) -> wire.Answer:
        place = self._places.pop(command.branch, None)
        if place is not None:
            place.arena.close(command.branch)
            if not any(other.arena is place.arena for other in self._places.values()):
                del self._arenas[place.arena_name]
                place.arena.shut()
        return wire.Nothing()

    # Jobs.

    def _submit(self, command: wire.Advance | wire.Generate | wire.Logits) -> None:
        place = self._places.get(command.branch)
        if place is None:
            self._failed(command.id, BackendError(f"no branch {command.branch}"))
            return
        work, rank, tell = self._work(command, place.arena)
        arrived = time.monotonic()

        def done(result: Any) -> None:
            ended = time.monotonic()
            self._send(
                wire.Done(command.id, tell(result, (job.began - arrived) * 1e3, (ended - job.began) * 1e3))
            )

        def failed(error: BaseException) -> None:
            held = place.arena.tokens(command.branch)
            self._failed(command.id, error, held)

        job = Job(command.id, command.branch, place.arena, rank, work, done, failed)
        self._loop.submit(job)

    def _work(
        self, command: wire.Advance | wire.Generate | wire.Logits, arena: Arena
    ) -> tuple[Work[Any], Rank, Callable[[Any, float, float], wire.Answer]]:
        tokens = wire.unpack_tokens(command.tokens)
        match command:
            case wire.Advance():

                def told(done: int, total: int) -> None:
                    self._send(wire.Progress(command.id, done, total))

                def advanced(reuse: Reuse, queue_ms: float, work_ms: float) -> wire.Answer:
                    return wire.Advanced(
                        reuse.reused, reuse.restored, reuse.prefilled, reuse.source, queue_ms, work_ms
                    )

                return arena.advance(command.branch, tokens, told), Rank.PREFILL, advanced
            case wire.Generate():
                return self._generation(command, arena, tokens)
            case wire.Logits():
                return (
                    arena.logits(command.branch, tokens),
                    Rank.PREFILL,
                    lambda logits, _queue_ms, _work_ms: wire.RawLogits(logits),
                )

    def _generation(
        self, command: wire.Generate, arena: Arena, tokens: list[int]
    ) -> tuple[Work[Finish], Rank, Callable[[Finish, float, float], wire.Answer]]:
        assembler = TextAssembler(command.stop)
        generated: list[int] = []

        def emit(token: int) -> Finish | None:
            generated.append(token)
            text = assembler.feed(self._model.pieces([token])[0])
            self._send(wire.Piece(command.id, text, [token]))
            stopped = assembler.stopped_by
            return Finish("stop_string", stopped) if stopped is not None else None

        def finished(finish: Finish, queue_ms: float, work_ms: float) -> wire.Answer:
            rest = assembler.finish()
            if assembler.stopped_by is not None:
                finish = Finish("stop_string", assembler.stopped_by)
            if rest:
                self._send(wire.Piece(command.id, rest, []))
            held = wire.pack_tokens(arena.tokens(command.branch))
            return wire.Generated(finish.reason, finish.stop_string, len(generated), held, queue_ms, work_ms)

        sampling: Sampling = command.sampling
        work = arena.generate(command.branch, tokens, sampling, command.max_tokens, emit)
        return work, Rank.DECODE, finished

    # The channel.

    def _answer(self, command_id: int, act: Callable[[], wire.Answer]) -> None:
        try:
            answer = act()
        except Exception as error:  # noqa: BLE001 - told to whoever asked
            self._failed(command_id, error)
        else:
            self._send(wire.Done(command_id, answer))

    def _failed(self, command_id: int, error: BaseException, held: list[int] | None = None) -> None:
        kind, field = _kind(error)
        packed = wire.pack_tokens(held or [])
        self._send(wire.Failed(command_id, kind, str(error) or type(error).__name__, field, packed))

    def _send(self, event: wire.AnyEvent) -> None:
        data = wire.encode(event)
        with self._sending:
            try:
                self._channel.sendall(data)
            except OSError:
                self._loop.stop()  # the daemon is gone, and so are we

    def _receive(self) -> wire.AnyCommand | None:
        head = self._exactly(wire.PREFIX.size)
        if head is None:
            return None
        body = self._exactly(wire.PREFIX.unpack(head)[0])
        return None if body is None else wire.decode_command(body)

    def _exactly(self, size: int) -> bytes | None:
        data = bytearray()
        while len(data) < size:
            try:
                more = self._channel.recv(min(size - len(data), 1 << 20))
            except OSError:
                return None
            if not more:
                return None
            data += more
        return bytes(data)


def _kind(error: BaseException) -> tuple[str, str]:
    """The word for an error on the wire, and the field it is about."""
    match error:
        case Cancelled():
            return "cancelled", ""
        case NoRoom():
            return "no_room", ""
        case Unsupported():
            return "unsupported", error.feature
        case SettingsError():
            return "setting", error.setting
        case ModelLoadError():
            return "load", ""
        case frames.FrameError():
            return "setting", "prompt_format"
        case msgspec.ValidationError():
            return "backend", ""
        case _:
            return "backend", ""
