"""What an engine process does with commands: it owns the model, its arenas, and the loop.

Three threads: the main one runs the loop; one reads commands; one does what needs no KV (tokens, frames), so that
a long text or a slow template keeps neither a cancel nor a decode waiting.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from sessiond.adapters.base import (
    ContextSettings,
    KvContext,
    Model,
    ModelLoadError,
    NoRoom,
    Run,
    SettingsError,
    Unsupported,
)
from sessiond.daemon.engine import frames, wire
from sessiond.daemon.engine.arena import Arena
from sessiond.daemon.engine.arenas import Arenas, Disk, NoMemory
from sessiond.daemon.engine.backends import adapters
from sessiond.daemon.engine.disk import DiskTier
from sessiond.daemon.engine.embedding import Embedding
from sessiond.daemon.engine.heap import give_back_heap
from sessiond.daemon.engine.jobs import JobCommand, JobMaker
from sessiond.daemon.engine.loop import Cancelled, Loop
from sessiond.daemon.engine.memory_tier import MemoryTier
from sessiond.daemon.engine.outbox import Outbox
from sessiond.daemon.engine.rendering import Renderer
from sessiond.daemon.engine.schedule import Rank
from sessiond.daemon.engine.tune import measure
from sessiond.daemon.machine import cores

OPENING_S = 1.5
"""How long a model that is loaded waits for its disk, or the first turn would compute what is there. 4,000
entries are looked through in 0.2 s with an index and 0.4 s without, mostly while the model is loaded (two cores, cached files);
a folder that is locked still, or a disk that hangs, is not waited for longer.
"""


class Worker:
    """One engine. `serve` returns when the daemon hangs up."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._loop = Loop(self._after_turn, self._idle, self._say, self._breathe)
        self._outbox = Outbox(channel, self._loop.stop)
        self._side = ThreadPoolExecutor(1, "side")
        self._renderer = Renderer()  # of the side thread
        self._cores = cores()  # asked before the backend binds this thread to one of them

    def serve(self) -> None:
        """Load, then work until the daemon hangs up."""
        first = self._receive()
        if not isinstance(first, wire.Load):
            return
        try:
            disk = self._disk(first)  # it is opened while the model is loaded
            self._model = self._load(first)
            if disk is not None:
                disk.tier.wait_open(OPENING_S)
            self._tier = MemoryTier(first.memory_tier)
            self._arenas = Arenas(self._model, self._tier, self._outbox.send, disk)
            self._jobs = JobMaker(self._model, self._arenas, self._outbox)
            self._embedding = Embedding(
                self._model, self._loop.call, self._side.submit, self._done, self._failed
            )
            self._outbox.send(wire.Done(first.id, wire.Loaded(self._model.facts, self._defaults())))
        except Exception as error:  # noqa: BLE001 - whatever a load dies of is told to the daemon
            self._failed(first.id, error)
            return
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        self._loop.run()
        self._side.shutdown(cancel_futures=True)
        self._renderer.close()
        self._arenas.shut()
        self._model.close()

    def _disk(self, command: wire.Load) -> Disk | None:
        if not command.disk_folder or not command.disk_tier:
            return None
        tier = DiskTier(Path(command.disk_folder), command.disk_tier)
        return Disk(tier, command.settings, str(os.getuid()), lambda: self._loop.call(lambda: None))

    def _load(self, command: wire.Load) -> Model:
        def progress(share: float) -> None:
            self._outbox.send(wire.Progress(command.id, int(share * 1000), 1000))

        model = adapters()[command.adapter].load(command.model, command.settings, progress)
        # The first decode happens here and now: if the build is faulty, it dies before any session has begun.
        if not model.facts.capabilities.session:
            if model.facts.capabilities.embed:
                embedder = model.new_embedder()
                embedder.embed(embedder.tokens("The first decode.")[: embedder.window])
                embedder.close()
            return model
        context = model.new_context(ContextSettings(num_ctx=min(256, model.facts.num_ctx_train)))
        if isinstance(context, KvContext):
            tokens = model.tokenize("The first decode.", parse_special=False)[:64]
            context.decode([Run(0, 0, tokens, want_logits=True)])
            context.logits(0)
        context.close()
        return model

    def _defaults(self) -> ContextSettings:
        context = self._model.new_context(ContextSettings())
        context.close()
        return context.settings

    def _say(self, everything: bool) -> None:
        if everything:
            self._outbox.flush()
        else:
            self._outbox.flush_due()

    def _breathe(self, arena: Arena) -> None:
        """Before a batch that may take all processors: let daemon and client take what they were told."""
        if max(arena.settings.num_threads, arena.settings.num_threads_batch) >= self._cores:
            time.sleep(self._outbox.breath())

    def _after_turn(self) -> None:
        self._outbox.flush_due()
        self._arenas.after_turn(self._loop.busy_branches())

    def _idle(self) -> float | None:
        pauses = (self._arenas.idle(), self._embedding.idle())
        self._after_turn()
        return min((pause for pause in pauses if pause is not None), default=None)

    # Commands.

    def _read(self) -> None:
        try:
            while (command := self._receive()) is not None:
                self._take(command)
        finally:
            self._embedding.stop()
            self._loop.stop()

    def _take(self, command: wire.AnyCommand) -> None:
        match command:
            case wire.Cancel():
                self._embedding.cancel(command.job)
                self._loop.cancel(command.job)
            case wire.Embed():
                self._embedding.heard(command)
            case wire.Tokenize() | wire.Pieces() | wire.Frame():
                self._side.submit(self._answer, command.id, lambda: self._aside(command))
            case wire.Open():
                self._loop.call(lambda: self._answer(command.id, lambda: self._arenas.open(command)))
            case wire.Close():
                self._loop.call(lambda: self._close_when_idle(command))
            case wire.Measure():
                self._loop.call(lambda: self._answer(command.id, lambda: measure(self._model)))
            case wire.Park() | wire.LimitMemory() | wire.Flush():
                self._loop.call(lambda: self._answer(command.id, lambda: self._give_back(command)))
            case wire.Check():
                self._loop.call(lambda: self._answer(command.id, self._arenas.check))
            case wire.Tally():
                self._answer(command.id, self._tally)  # here and now: a batch may take seconds
            case (
                wire.Advance()
                | wire.Generate()
                | wire.Logits()
                | wire.Weigh()
                | wire.SaveKv()
                | wire.LoadKv()
            ):
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
                pieces = self._renderer.frame(source, command.roles, vocab.eos_text, vocab.bos_text)
                return wire.Framed(pieces, frames.source_digest(source))

    def _close_when_idle(self, command: wire.Close) -> None:
        """A job must not find its branch gone: it is cancelled, and the close comes after it."""
        if jobs := self._loop.jobs_on(command.branch):
            for job in jobs:
                self._loop.cancel(job)
            self._loop.call(lambda: self._close_when_idle(command))
        else:
            self._answer(command.id, lambda: self._close(command))

    def _close(self, command: wire.Close) -> wire.Answer:
        self._arenas.close(command.branch)
        return wire.Nothing()

    def _give_back(self, command: wire.Park | wire.LimitMemory | wire.Flush) -> wire.Answer:
        match command:
            case wire.Park():
                self._arenas.park(command.arena)
                self._after_turn()  # whoever waits for the answer has heard by then where the branches are
            case wire.LimitMemory():
                if self._tier.limit_to(command.memory_tier):
                    give_back_heap()
                    self._after_turn()
            case wire.Flush():
                self._arenas.flush(command.seconds)
        return wire.Nothing()

    def _tally(self) -> wire.Answer:
        waiting, jobs = self._loop.census()
        moved = self._tier.movements
        return wire.Tallied(
            waiting=waiting,
            decodes=jobs[Rank.DECODE],
            prefills=jobs[Rank.PREFILL],
            keep_hots=jobs[Rank.KEEP_HOT],
            kept_tokens=moved.kept,
            dropped_tokens=moved.dropped,
            forgotten_tokens=moved.forgotten,
            restored_tokens=moved.restored,
            fetched_tokens=moved.fetched,
            computed_tokens=moved.computed,
            memory_tier=self._tier.used,
            disk=self._arenas.disk_told(),
        )

    def _submit(self, command: JobCommand) -> None:
        try:
            job = self._jobs.make(command, self._failed)
        except Exception as error:  # noqa: BLE001 - told to whoever asked
            self._failed(command.id, error)
        else:
            self._loop.submit(job)

    # The channel.

    def _answer(self, command_id: int, act: Callable[[], wire.Answer]) -> None:
        try:
            self._outbox.send(wire.Done(command_id, act()))
        except Exception as error:  # noqa: BLE001 - told to whoever asked, also where an answer cannot be sent
            self._failed(command_id, error)

    def _done(self, command_id: int, answer: wire.Answer) -> None:
        self._outbox.send(wire.Done(command_id, answer))

    def _failed(self, command_id: int, error: BaseException, held: list[int] | None = None) -> None:
        kind, field = _kind(error)
        # Whatever the text is, it gets there: a model file or its template may have had a hand in it.
        said = (str(error) or type(error).__name__).encode("utf-8", "backslashreplace").decode("utf-8")
        self._outbox.send(wire.Failed(command_id, kind, said, field, wire.pack_tokens(held or [])))

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
        case NoMemory():
            return "no_memory", ""
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
