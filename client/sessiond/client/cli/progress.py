"""What a person sees while waiting. Everything goes to standard error, and only where that is a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Self

from sessiond.client import threads
from sessiond.client.cli.output import on_terminal
from sessiond.client.cli.terminal_text import clean_line

if TYPE_CHECKING:
    from rich.progress import Progress

    from sessiond.client.sync import Session, Stream
    from sessiond.v1.session_service_pb2 import SessionEvent

_WORTH_A_BAR_TOKENS = 64


@contextlib.contextmanager
def spinner(text: str, *, show: bool = True) -> Generator[None, None, None]:
    """A spinner with a text while the body runs, which prints nothing: it would come out on standard error."""
    if not (show and on_terminal(sys.stderr)):
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield


class PrefillBar:
    """A bar for the prefill of a session, fed by WatchSession in a second stream; silent where nobody looks.

    It shows itself once much is left to do, so that a warm turn shows none, and is gone when it is stopped.
    """

    def __init__(self, session: Session, *, show: bool) -> None:
        self._watch: Stream[SessionEvent] | None = None
        self._ended: SimpleQueue[None] = SimpleQueue()
        if show and on_terminal(sys.stderr):
            self._watch = session.watch()
            threads.start(partial(self._show, self._watch, self._ended))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar away. Twice is once."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()
            threads.wait_for(self._ended)

    @staticmethod
    def _show(watch: Stream[SessionEvent], ended: SimpleQueue[None]) -> None:
        bar: Progress | None = None
        with contextlib.ExitStack() as stack:
            stack.callback(ended.put, None)
            from sessiond.v1.errors import SessiondError

            stack.enter_context(contextlib.suppress(SessiondError))  # a bar is not worth an error
            for event in watch:
                told = event.prefill_progress
                if event.WhichOneof("event") != "prefill_progress" or told.stage == "keep_hot":
                    continue
                if bar is None and told.total_tokens - told.done_tokens < _WORTH_A_BAR_TOKENS:
                    continue
                if bar is None:
                    bar = stack.enter_context(_new_bar())
                    bar.add_task("")
                bar.update(
                    bar.task_ids[0],
                    description=f"reading the {clean_line(told.stage)}",
                    completed=told.done_tokens,
                    total=told.total_tokens,
                )


class CountBar:
    """A bar for so many things that end one by one; silent where nobody looks."""

    def __init__(self, total: int, what: str, *, show: bool) -> None:
        self._bar: Progress | None = None
        if show and on_terminal(sys.stderr):
            self._bar = _new_bar("")
            self._bar.add_task(what, total=total)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self) -> None:
        """One more has ended."""
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0])


def _new_bar(unit: str = "tokens") -> Progress:
    # Loaded only now: on a warm turn the first token would have to wait for it.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        # What is printed while a bar stands goes above it, through the bar's own console: never what goes into a file.
        redirect_stdout=on_terminal(sys.stdout),
    )
