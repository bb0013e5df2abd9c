"""Three turns over a scratch copy of a folder: cold, warm, and after an edit. Started by scripts/demo.

The exit status is 0 only if the warm turn computed nothing of its prefix anew, and the edited one less than the cold one.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from demo_copy import scratch_copy
from demo_daemon import last_words, own_daemon
from demo_signals import Interrupted, Signals
from sessiond.client import Client, Session, SessiondError, prefix_input
from sessiond.client.cli.explain_view import report_view
from sessiond.client.cli.numbers import count, duration
from sessiond.client.cli.output import say, say_json, terminal
from sessiond.client.cli.progress import PrefillBar, spinner
from sessiond.client.cli.terminal_text import clean_line
from sessiond.v1.context_pb2 import PrefixStatus, SuffixStatus, WorkspaceInput

if TYPE_CHECKING:
    from sessiond.v1.context_pb2 import ManifestSegment

PREFIX_TOKENS = 2000
"""Cold, this takes less than ten seconds on two idle cores with the embedded model."""
ANSWER_TOKENS = 48
TURN_SECONDS = 900.0
EDIT_AT = 0.8
"""Where in the prefix the file stands that is changed: late, so that most of what stands before it can be kept."""
LINE = "# A line that the demo added.\n"
SHORT_LINE = "# edited\n"

REPOSITORY = Path(__file__).resolve().parent.parent
MOST_FOLDER_BYTES = 80  # a Unix socket's path may have 107, and its name has to fit too


class NothingToShow(Exception):
    """The folder has no file that could stand in a prefix."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and what it cost."""

    name: str
    prefix: PrefixStatus
    suffix: SuffixStatus
    first_token_ms: float
    text: str

    def as_dict(self) -> dict[str, object]:
        """As `--json` prints it."""
        return {
            "name": self.name,
            "reused_tokens": self.prefix.reused_tokens,
            "restored_tokens": self.prefix.restored_tokens,
            "prefilled_tokens": self.prefix.prefilled_tokens,
            "suffix_tokens": self.suffix.suffix_tokens,
            "first_token_ms": self.first_token_ms,
            "text": self.text,
        }


class Demo:
    """The session, its scratch copy, and how it is shown."""

    def __init__(self, client: Client, root: Path, budget: int, *, quiet: bool) -> None:
        self._root = root
        self._quiet = quiet
        self.session: Session = client.open_session(workspace_root=root)
        info = self.session.opened
        assert info is not None
        self._budget = min(budget, info.config.num_ctx * 3 // 4)
        self._widest = info.config.num_ctx * 3 // 4

    def run(self) -> list[Turn]:
        """All three. Raises NothingToShow."""
        try:
            cold = self._ask("cold", "What is this project for? Answer in one sentence.")
        except NothingToShow:
            if self._budget == self._widest:
                raise
            self._budget = self._widest  # perhaps the only file is a long one
            cold = self._ask("cold", "What is this project for? Answer in one sentence.")
        warm = self._ask("warm", "Name one of its files and say what is in it.")
        path = self._edit()
        self._say(f"\nA line is added to {clean_line(path)} in the scratch copy.")
        return [cold, warm, self._ask("edited", f"What is in {path}?")]

    def _say(self, text: str = "", end: str = "\n") -> None:
        if not self._quiet:
            say(text, end=end)

    def _ask(self, name: str, question: str) -> Turn:
        """One turn right after the prefix."""
        self._say(f"\n{name}: {clean_line(question)}")
        prefix, suffix, first_token_ms, pieces = PrefixStatus(), SuffixStatus(), 0.0, list[str]()
        with (
            PrefillBar(self.session, show=not self._quiet) as bar,
            self.session.complete(
                messages=[("user", question)],
                mode="replace",
                prefix=prefix_input(workspace=WorkspaceInput(max_tokens=self._budget, no_keep_hot=True)),
                max_tokens=ANSWER_TOKENS,
                timeout=TURN_SECONDS,
            ) as answer,
        ):
            for part in answer:
                if part.HasField("prefix_status"):
                    prefix = part.prefix_status
                    if prefix.prefix_tokens == 0:
                        raise NothingToShow(self._why_nothing())
                elif part.HasField("suffix_status"):
                    suffix = part.suffix_status
                else:
                    bar.stop()
                    pieces.append(part.chunk.text)
                    self._say(part.chunk.text, end="")
                    if part.chunk.HasField("summary"):
                        first_token_ms = part.chunk.summary.timings.first_token_ms
        self._say()
        return Turn(name, prefix, suffix, first_token_ms, "".join(pieces))

    def _why_nothing(self) -> str:
        left_out = self.session.explain().left_out
        named = [f"{left.path} ({left.detail})" for left in left_out[:3]]
        more = f", and {len(left_out) - 3} more" if len(left_out) > 3 else ""
        return f"none of its files can stand in a prompt: {', '.join(named)}{more}"

    def _edit(self) -> str:
        """Add a line to one file of the prefix; its path."""
        report = self.session.explain()
        files = [residence.segment for residence in report.segments if residence.segment.path]
        wanted = EDIT_AT * report.prefix_tokens
        # The last one is taken only where it is the only one: a line more might not fit into the budget there.
        segment = min(files[:-1] or files, key=lambda file: abs(file.token_end - wanted))
        place = self._root / segment.path
        place.write_bytes(_with_a_line(place.read_bytes(), segment, self._budget - report.prefix_tokens))
        return segment.path


def _with_a_line(content: bytes, segment: ManifestSegment, room: int) -> bytes:
    """The content with a line more; where there is no room for one, with its end cut off first."""
    line = (LINE if segment.token_end - segment.token_start > 100 else SHORT_LINE).encode()
    if room < len(line) and len(content) > 64 * len(line):
        content = content[: -8 * len(line)].decode("utf-8", "ignore").encode()
    return content + (b"" if content.endswith(b"\n") or not content else b"\n") + line


def broken_promises(turns: Sequence[Turn]) -> list[str]:
    """What the turns should have kept and did not, as sentences."""
    cold, warm, edited = turns
    broken: list[str] = []
    if warm.prefix.prefilled_tokens or warm.prefix.reused_tokens != warm.prefix.prefix_tokens:
        broken.append(f"the warm turn computed {warm.prefix.prefilled_tokens} tokens of its prefix anew")
    if not edited.prefix.reused_tokens:
        broken.append("the turn after the edit reused nothing")
    if edited.prefix.prefilled_tokens >= cold.prefix.prefilled_tokens:
        broken.append("the turn after the edit computed no less than the cold one")
    return broken


def show(turns: Sequence[Turn], session: Session) -> None:
    """The three turns as a table, and what the daemon says of the context after them."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("TURN", "REUSED", "RESTORED", "PREFILLED", "SUFFIX", "FIRST TOKEN"):
        table.add_column(title, justify="left" if title == "TURN" else "right")
    for turn in turns:
        status = turn.prefix
        figures = (status.reused_tokens, status.restored_tokens, status.prefilled_tokens)
        first = duration(turn.first_token_ms) if turn.first_token_ms else "-"
        table.add_row(turn.name, *map(count, figures), count(turn.suffix.suffix_tokens), first)
    console = terminal()
    console.print("\nTokens of the prefix, tokens of the question, time to the first token:\n")
    console.print(table)
    console.print("\nWhat sessionctl explain says now:\n")
    console.print(report_view(session.name, session.explain()))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument(
        "dir", metavar="DIR", nargs="?", type=Path, default=REPOSITORY, help="the folder to ask about"
    )
    parser.add_argument("--json", action="store_true", help="print one object and nothing else")
    parser.add_argument("--model", default="", help="a model's name or path; the embedded one if left out")
    parser.add_argument(
        "--prefix-tokens",
        type=int,
        default=PREFIX_TOKENS,
        help="tokens of files at most (default: %(default)s)",
    )
    given = parser.parse_args(arguments)
    if not given.dir.is_dir():
        parser.error(f"not a folder: {given.dir}")
    if given.prefix_tokens < 1:
        parser.error("--prefix-tokens is a number above 0")
    signals = Signals()
    with tempfile.TemporaryDirectory(
        prefix="sessiond-demo-", dir=_short_folder(), ignore_cleanup_errors=True
    ) as folder:
        status = 1
        try:
            status = _run(given, Path(folder), signals)
        except Interrupted:
            pass  # its status is told below
        except NothingToShow as error:
            print(f"demo: there is nothing to show in {clean_line(str(given.dir))}: {error}", file=sys.stderr)
        except (SessiondError, TimeoutError) as error:
            print(f"demo: {error}", file=sys.stderr)
            if words := last_words(Path(folder)):
                print(f"demo: the end of the daemon's log:\n{words}", file=sys.stderr)
    return status if signals.status is None else signals.status


def _run(given: argparse.Namespace, folder: Path, signals: Signals) -> int:
    source: Path = given.dir.resolve()
    # A name that is no UTF-8 could not be sent.
    name = source.name.encode("utf-8", "replace").decode() or "root"
    root = folder / "copy" / name
    with signals.interruptible():
        files = scratch_copy(source, root)
    if not files:
        raise NothingToShow("it has no file")
    if not given.json:
        say(f"{count(files)} files of {clean_line(str(source))} in a scratch copy")
    with contextlib.ExitStack() as stack:
        with spinner("starting a daemon of the demo's own", show=not given.json):
            client = stack.enter_context(own_daemon(folder, given.model, signals.interruptible()))
        with signals.interruptible():
            demo = Demo(client, root, given.prefix_tokens, quiet=given.json)
            turns = demo.run()
            if given.json:
                say_json({"turns": [turn.as_dict() for turn in turns]})
            else:
                show(turns, demo.session)
    broken = broken_promises(turns)
    for sentence in broken:
        print(f"demo: {sentence}", file=sys.stderr)
    return 1 if broken else 0


def _short_folder() -> str | None:
    """Where temporary files go; another place if that one's path is too long for a socket."""
    return None if len(tempfile.gettempdir().encode()) <= MOST_FOLDER_BYTES else "/tmp"  # noqa: S108 - see above


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
