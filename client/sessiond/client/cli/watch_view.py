"""`watch` for a person at a terminal: what happened scrolls by, and what runs now stands below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from sessiond.client.cli.numbers import clock, count
from sessiond.client.cli.output import terminal
from sessiond.client.cli.sessions import state_word
from sessiond.client.cli.terminal_text import clean_line
from sessiond.client.cli.watch_text import stage_word, told

if TYPE_CHECKING:
    from sessiond.client.sync import Session
    from sessiond.v1 import session_service_pb2 as pb

_KEEP_HOT = "keep_hot"
_COLOURS = {
    "files": "cyan",
    "prefill": "default",
    "keep-hot": "green",
    "invalidated": "yellow",
    "fault": "bold red",
    "state": "bright_black",
}


def show(session: Session) -> None:
    """Draw what happens until the session is closed."""
    with session.watch() as events:
        view = WatchView(session.info())
        with Live(view, console=terminal()) as live:
            for event in events:
                line = view.take(event)
                if line is not None:
                    live.console.print(line)
                if event.WhichOneof("event") == "state":  # a turn began or ended, and the prefix with it
                    view.session = session.info()


class WatchView:
    """The session as it is, and a bar for each prefill that runs."""

    def __init__(self, session: pb.Session) -> None:
        self.session = session
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("tokens"),
            TimeElapsedColumn(),
        )
        self._running: dict[str, TaskID] = {}

    def __rich__(self) -> RenderableType:
        return Group(self._status(), self._bars) if self._running else self._status()

    def take(self, event: pb.SessionEvent) -> Text | None:
        """Show an event. Returns the line that stays of it; progress leaves one when it is at its end."""
        kind = event.WhichOneof("event")
        if kind == "prefill_progress" and not self._ends(event.prefill_progress):
            return None
        if kind == "keep_hot" and event.keep_hot.phase != "started":
            self._end(_KEEP_HOT)
        elif kind == "state":
            for stage in [stage for stage in self._running if stage != _KEEP_HOT]:
                self._end(stage)
        line = told(event)
        if line is None:
            return None
        text = Text(f"{clock(event.time_ms)}  ", style="bright_black")
        text.append(f"{line.kind:<11}  ", style=_COLOURS[line.kind])
        return text.append(line.text, style="default")

    def _ends(self, progress: pb.PrefillProgress) -> bool:
        """Move the bar of a stage. Returns whether it is full, and then takes it away."""
        stage = progress.stage
        if progress.done_tokens >= progress.total_tokens:
            self._end(stage)
            return True
        if stage not in self._running:
            self._running[stage] = self._bars.add_task(stage_word(stage))
        self._bars.update(self._running[stage], completed=progress.done_tokens, total=progress.total_tokens)
        return False

    def _end(self, stage: str) -> None:
        task = self._running.pop(stage, None)
        if task is not None:
            self._bars.remove_task(task)

    def _status(self) -> Text:
        facts = [
            state_word(self.session.state),
            f"prefix of {count(self.session.prefix_tokens)} tokens",
            f"{count(self.session.resident_tokens)} resident",
            clean_line(self.session.workspace_root) or "no workspace",
        ]
        return Text(clean_line(self.session.name), style="bold").append(
            f" · {' · '.join(facts)}", style="not bold"
        )
