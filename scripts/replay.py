#!/usr/bin/env python3
"""A day of edits: a real git history, replayed over a scratch copy as a person would work, with a daemon of its own.

    .venv/bin/python scripts/replay.py [--repo FOLDER] [--commits 20] [--think 5] [--compare | --order] …

Each commit's hunks are saved one by one. After a save somebody thinks for a while and asks, and asks again with nothing
changed: the base line. Now and then a save is taken back, a formatter runs over several files, another branch is looked
at. First tokens are those of the whole turn, seen by the client; only changes that reached the prefix count. So that most
of them do, the copy holds the files with the most hunks and some others, as many as fit into the budget; with --whole it
holds all of them.

- by default: where there was time to think, the first token after a save is at most 1.15 times a plain turn's, at p95.
- --compare: the same edits to a second daemon that keeps nothing hot, in turn. With --think 0 keep-hot makes nothing
  worse than 1.05 times, at the median and at p95.
- --check-exact K: at every K-th event the prefix is that of a fresh session, and holds what the files hold. With
  --deterministic each answer there is, token for token, that of a session which computes the whole prompt; nothing is kept
  on disk then, where that session would find it.
- --disk: what the engine wrote to the disk is at most 1.1 times the KV that was new (see replay_disk.py).
- --order: no questions; tokens computed again with the files ordered by volatility and by path. The files are chosen
  blindly here. With --model scripted-kv: and a wide window it takes seconds, as nothing is computed.

The repository is only read. Prints one JSON object, and tables on standard error; status 1 if a target was missed. Run
it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from dulwich.objects import ObjectID

from benchmark.load import OtherLoad
from compare_verdict import Outcome, missed, rounded, table
from demo_daemon import last_words, own_daemon
from replay_choice import Choice
from replay_desk import SUFFIX_ROOM, Desk, Manner
from replay_disk import DiskWatch
from replay_git import Files, History, NoHistory
from replay_order import two_orders
from replay_plan import Habits, Step, day
from replay_records import Day
from replay_scratch import Scratch
from replay_summary import compared, exact, kept_hot, kinds_table, ordered
from sessiond.client import Client, SessiondError

SOURCE = Path(__file__).resolve().parent.parent
BEHIND = 10
"""The other branch is so many commits behind the first version, or as many as there are."""
SAMPLE = 50_000
"""Characters that are tokenized to see how dense the texts are."""
FULL = 0.9
"""Of the budget, what the files take by that reckoning."""


@dataclass(slots=True)
class Found:
    """What a replay found, and the days it was found in."""

    outcomes: dict[str, Outcome]
    days: dict[str, Day]


class Replay:
    """A part of one history, ready to be replayed."""

    def __init__(self, history: History, commits: int, habits: Habits, seed: int) -> None:
        """Raises NoHistory if there is nothing to replay."""
        chain = history.first_parents(commits + 1 + BEHIND)
        if len(chain) < 2:
            raise NoHistory("the history has a single commit, and so no change to replay")
        self.commits: list[ObjectID] = chain[commits::-1]
        self._other = chain[-1]
        self._history, self._habits, self._seed = history, habits, seed
        self.chosen: frozenset[str] | None = None
        """The files that it is about; None is all."""

    def choose(self, client: Client, max_tokens: int, *, busiest: bool) -> None:
        """Let it be about no more files than fit into so many of the model's tokens: the busiest, or any."""
        sample = b"\n".join(self._history.files(self.commits[0]).values()).decode("utf-8", "replace")[:SAMPLE]
        tokens = len(client.tokenize(sample).token_ids) if sample else 0
        room = max_tokens * len(sample.encode()) / max(1, tokens) * FULL
        choice = Choice(map(self._files, self.commits), self._seed)
        self.chosen = choice.busiest(int(room)) if busiest else choice.any(int(room))

    def steps(self) -> Iterator[Step]:
        """The day."""
        return day(map(self._files, self.commits), self._files(self._other), self._habits, self._seed)

    def scratch(self, root: Path) -> Scratch:
        """A folder as it was when the day began."""
        scratch = Scratch(root, self._files(self.commits[0]))
        scratch.with_history(self._history.objects, self.commits[0])
        return scratch

    def _files(self, commit: ObjectID) -> Files:
        files = self._history.files(commit)
        if self.chosen is None:
            return files
        return {path: content for path, content in files.items() if path in self.chosen}


def main() -> int:
    """Replay, judge, print. 0: all targets were met, 1: not all, 2: it could not be run."""
    asked = _arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    with tempfile.TemporaryDirectory(prefix="sd-", ignore_cleanup_errors=True) as name:
        try:
            with contextlib.closing(History(asked.repo)) as history:
                replay = Replay(history, asked.commits, Habits(asks=asked.asks), asked.seed)
                found = (_in_two_orders if asked.order else _lived)(replay, asked, Path(name))
        except NoHistory as error:
            _say(str(error))
            return 2
        except (SessiondError, TimeoutError) as error:
            _say(f"{error}\nThe end of the daemon's log:\n{_last_words(Path(name))}")
            return 2
        print(json.dumps(_report(asked, replay, found), indent=2))
    sys.stderr.write(kinds_table(found.days))
    sys.stderr.write(table(found.outcomes))
    for sentence in (misses := missed(found.outcomes)):
        _say(sentence)
    return 1 if misses else 0


def _lived(replay: Replay, asked: argparse.Namespace, folder: Path) -> Found:
    """The day with questions, at one daemon or at two in turn."""
    manner = _manner(asked, asked.think)
    load, fault = OtherLoad(), ""
    with contextlib.ExitStack() as stack:
        desks: dict[str, Desk] = {}
        disk: DiskWatch | None = None
        for name in ("hot", "not-hot") if asked.compare else ("hot",):
            daemon = _daemon(folder / name, asked.model, keep_hot=name == "hot", disk=not asked.deterministic)
            client = stack.enter_context(daemon)
            if not asked.whole and replay.chosen is None:
                replay.choose(client, asked.max_tokens, busiest=True)
            if asked.disk and name == "hot":
                disk = DiskWatch(folder / name)
                stack.callback(disk.stop)
            scratch = replay.scratch(folder / name / "workspace")
            desks[name] = Desk(client, scratch, manner, keeps_hot=name == "hot")
            stack.callback(desks[name].close)
        try:
            _work(replay.steps(), list(desks.values()), len(replay.commits) - 1)
        except (SessiondError, TimeoutError) as error:
            fault = f"{type(error).__name__}: {error}"
        others = load.share()
        traffic = disk.rest() if disk is not None else None
    days = {name: desk.day for name, desk in desks.items()}
    outcomes = {"hot": kept_hot(days["hot"], asked.think)}
    outcomes["hot"].fault = fault
    outcomes["hot"].figures["cpu_share_of_others"] = others
    if asked.compare:
        outcomes["compare"] = compared(days["hot"], days["not-hot"], asked.think)
    outcomes["exact"] = exact(list(days.values()))
    if traffic is not None:
        outcomes["disk"] = traffic.outcome()
    return Found(outcomes, days)


def _in_two_orders(replay: Replay, asked: argparse.Namespace, folder: Path) -> Found:
    """The day without questions, with the files in two orders."""
    with _daemon(folder / "order", asked.model, keep_hot=False) as client:
        replay.choose(client, asked.max_tokens, busiest=False)
        scratches = replay.scratch(folder / "volatility"), replay.scratch(folder / "path")
        by_volatility, by_path = two_orders(client, scratches, replay.steps(), _manner(asked, 0.0))
    outcome = ordered(by_volatility, by_path)
    return Found({"order": outcome}, {"volatility": by_volatility, "path": by_path})


def _work(steps: Iterable[Step], desks: Sequence[Desk], commits: int) -> None:
    """Every step at every desk. They begin in turn, and one at a time: no daemon works while another is asked."""
    commit, began = 0, time.monotonic()
    for index, step in enumerate(steps):
        if step.commit != commit:
            commit = step.commit
            _say(f"commit {commit} of {commits}, after {time.monotonic() - began:.0f} s")
        for desk in desks if index % 2 == 0 else desks[::-1]:
            for other in desks:
                if other is not desk:
                    other.settle()
            desk.work(step)


@contextlib.contextmanager
def _daemon(folder: Path, model: str, *, keep_hot: bool, disk: bool = True) -> Generator[Client, None, None]:
    """A daemon with a folder of its own."""
    folder.mkdir()
    settings = f"keep_hot = {'true' if keep_hot else 'false'}\n" + ("" if disk else "disk_tier_mb = 0\n")
    (folder / "sessiond.toml").write_text(settings)
    with own_daemon(folder, model) as client:
        client.model()  # loaded from here on
        yield client


def _last_words(folder: Path) -> str:
    return "\n".join(filter(None, map(last_words, sorted(folder.iterdir()))))


def _manner(asked: argparse.Namespace, think: float) -> Manner:
    return Manner(asked.num_ctx, asked.max_tokens, think, asked.check_exact, asked.deterministic)


def _report(asked: argparse.Namespace, replay: Replay, found: Found) -> dict[str, object]:
    return {
        "commits": [commit.decode() for commit in replay.commits],
        "files": None if replay.chosen is None else sorted(replay.chosen),
        "asked": {
            name: str(value) if isinstance(value, Path) else value for name, value in vars(asked).items()
        },
        "scenarios": {name: rounded(outcome.figures) for name, outcome in found.outcomes.items()},
        "targets": [
            {"scenario": name, **target.as_dict()}
            for name, outcome in found.outcomes.items()
            for target in outcome.targets
        ],
        "faults": {name: outcome.fault for name, outcome in found.outcomes.items() if outcome.fault},
        "not_measured": [
            {"scenario": name, "why": told}
            for name, outcome in found.outcomes.items()
            for told in outcome.not_measured
        ],
        "turns": {
            name: [rounded(question.as_dict()) for question in each.questions]
            for name, each in found.days.items()
        },
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repo", type=Path, default=SOURCE, help="any git repository (default: this one)")
    parser.add_argument("--model", default="", help="a model's name or path; the embedded one if left out")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--compare", action="store_true", help="beside a daemon that keeps nothing hot")
    mode.add_argument("--order", action="store_true", help="the order of the files instead")
    parser.add_argument("--whole", action="store_true", help="all files, of which the daemon chooses")
    parser.add_argument("--deterministic", action="store_true", help="sessions whose answers are exact")
    parser.add_argument("--disk", action="store_true", help="what is written to the disk, too")
    parser.add_argument("--think", type=float, default=5.0, help="seconds between a save and a question")
    numbers = {
        "commits": (20, 1, "commits that are replayed, the newest ones"),
        "asks": (6, 1, "saves of each commit, at most, after which there is a question"),
        "num-ctx": (8192, 1024, "tokens of the window"),
        "max-tokens": (0, 0, "tokens of the workspace's prefix; 0 is half of the window"),
        "check-exact": (0, 0, "check at every so many events; 0 is never"),
        "seed": (1, 0, "another one is another day"),
    }
    for name, (default, _, told) in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{told} (default: {default})")
    asked = parser.parse_args()
    asked.max_tokens = asked.max_tokens or asked.num_ctx // 2
    for name, (_, least, _) in numbers.items():
        if getattr(asked, name.replace("-", "_")) < least:
            parser.error(f"--{name} is at least {least}")
    if asked.disk and asked.deterministic:
        parser.error("--deterministic keeps nothing on disk: no --disk")
    if asked.disk and asked.order:
        parser.error("--order computes nothing that is worth writing: no --disk")
    if asked.whole and asked.order:
        parser.error("--order is about files that are in the prefix, not --whole")
    if not 0 <= asked.think <= 3600:
        parser.error("--think is from 0 to 3600")
    if asked.max_tokens > asked.num_ctx - SUFFIX_ROOM:
        parser.error(f"--max-tokens is at most {SUFFIX_ROOM} below --num-ctx")
    return asked


def _leave(number: int, _frame: object) -> NoReturn:
    """End in order, so that every process that was started is stopped."""
    sys.exit(128 + number)


def _say(what: str) -> None:
    print(f"replay: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
