#!/usr/bin/env python3
"""A daemon under load is killed at random moments, and its engine, and both: is anything lost, is anything wrong?

    .venv/bin/python scripts/kills.py [--kills 200] [--seed 1] [--model NAME|PATH]

Several clients edit a workspace and texts of their own, ask, fork, open and close all the time. kill -9 falls while the daemon
begins, while sessions are asked for again, while clients work, and while an entry is being written. After each kill, before
anybody goes on:

- every name answers that was in the daemon's ledger, or had seconds to get there;
- each prefix is what its files and texts are, and each answer, also one of which only a beginning came, is that of the model
  in this process over the same tokens, computed from nothing;
- of the tokens of these prefixes whose KV stood in the folder's files when the kill fell, 95% come back without a prefill.

A call may fail with SESSION_FATAL, SESSION_UNAVAILABLE or a broken connection once somebody was killed, and in no other way.
Texts of sessions begin with the same few tokens, as frames make them, so that what is on the disk for each begins before where
they part. With --apart they differ from their first token on.

With the scripted backend (the default) 200 kills take some fifteen minutes; --model "" is the embedded model. Prints one JSON
object; status 1 if a target was missed.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from compare_verdict import Outcome, missed, rounded, table
from demo_daemon import last_words, own_daemon
from kills_blow import TARGETS, Blow, Target
from kills_check import Check, CutShort, Found, Judge, too_young
from kills_disk import Comeback, Labels, Written
from kills_held import Folder, Library, Shelf
from kills_load import WINDOW, Load, Noted, World
from kills_oracle import Oracle
from own_processes import is_gone
from sessiond.client import Client, SessiondError, SessionUnavailable

MODEL = "scripted-kv:num_ctx=2048,step_ms=12"
"""Slow enough to be struck at work, and for what the disk has to be back sooner than it is computed."""
MOMENTS = ("start", "return", "open", "prefill", "answer", "write")
"""All of them have to be struck in a run of MANY kills and more."""
MANY = 60
CAME_BACK = 0.95
SHOWN = 10
LOAD_S = 60.0
"""Clients go home after so long, if no kill has fallen by then."""
SOONEST_S = 0.25
"""After a kill of its engine, what a daemon says sooner was said before it."""
ENDS_S = 30.0
"""Within which an engine has to end whose daemon was killed, on any machine."""


@dataclass(slots=True)
class Seen:
    """All that was seen, over all kills."""

    found: Found = field(default_factory=Found)
    noted: Noted = field(default_factory=Noted)
    targets: Counter[str] = field(default_factory=Counter[str])
    struck: Counter[str] = field(default_factory=Counter[str])
    missed: int = 0
    """Kills that found nobody to kill: between two engines, or before a daemon had begun."""
    turns: int = 0
    expected: int = 0
    lost: int = 0
    unwritten: int = 0
    unseen: int = 0
    worst: list[str] = field(default_factory=list[str])
    """Kills after which less came back than should."""
    looked: int = 0
    """How often all names were asked after a kill."""
    cut_short: int = 0
    """How often the next kill fell meanwhile."""

    def count(self, comeback: Comeback, blow: Blow) -> None:
        """Add up what came back after a kill."""
        for name in ("expected", "lost", "unwritten", "unseen"):
            setattr(self, name, getattr(self, name) + getattr(comeback, name))
        if comeback.lost > (1 - CAME_BACK) * comeback.expected:
            self.worst.append(
                f"{blow.target} in {blow.hit}: {comeback.lost} of {comeback.expected} tokens computed again; "
                + "; ".join(comeback.told)
            )


class Kills:
    """One folder, many daemons in it, one after the other."""

    def __init__(
        self,
        folder: Path,
        model: str,
        kills: int,
        seed: int,
        targets: Sequence[Target] = TARGETS,
        *,
        alike: bool = True,
    ) -> None:
        """`targets` are killed in turn; `alike` is as in `Shelf`."""
        self._folder, self._model, self._kills, self._targets = folder, model, kills, targets
        self._rng = Random(seed)
        self._oracle = Oracle(model, WINDOW)
        self._library, self._shelf, self.seen = Library(), Shelf(alike=alike), Seen()
        self._workspace = Folder(folder / "workspace", self._library, Random(seed))
        self._judge = Judge(self._oracle, self._library, self.seen.found)
        self._load = Load(World(folder / "d.sock", self._workspace, self._library, self._shelf), self._rng)
        self._labels: Labels = {}
        self._last: Blow | None = None
        """The one that everything has to stand up from, until it was looked."""
        self._comeback = Comeback(Written())
        """What came back since."""
        self._number = 0

    def run(self) -> Seen:
        """All kills, and a last look. Raises SessionUnavailable for a daemon that does not begin, TimeoutError."""
        while self._number <= self._kills:
            self._life()
        self._oracle.close()
        return self.seen

    def _life(self) -> None:
        """A daemon, until a kill ends it; what strikes its engine alone it has to survive."""
        blow = self._next()
        blow.comes("start")
        try:
            with own_daemon(self._folder, self._model) as client:
                while self._stand(client, blow):
                    blow = self._next()
        except SessionUnavailable:
            if not blow.begun.is_set():
                raise
            self._fell(blow)

    def _next(self) -> Blow:
        target = self._targets[self._number % len(self._targets)]
        return Blow(self._folder, target, self._rng, self._labels, self._load.doing)

    def _stand(self, client: Client, blow: Blow) -> bool:
        """Look whether all stands, and work until the kill has fallen. Whether the daemon lives and there is more to come."""
        blow.comes("return")
        self._look(client, blow)
        if self._number == self._kills:
            blow.call_off()  # the last look is over
            self._number += 1
            return False
        blow.comes("write")  # what is meant for the load falls from here on too
        noted = Noted() if blow.begun.is_set() else self._load.until(blow.over, blow.begun, LOAD_S)
        self._fell(blow)
        self._judge.turns(noted.turns, self._comeback, blow.at + SOONEST_S)
        self.seen.turns += len(noted.turns)
        noted.turns.clear()
        self.seen.noted.add(noted)
        return blow.target == "engine"

    def _look(self, client: Client, blow: Blow) -> None:
        """What the last kill left."""
        if self._last is None:
            return
        check = Check(client, self._workspace, self._shelf, self._judge, self.seen.found, blow.begun)
        try:
            check.all(self._comeback, self._last.at)
            self.seen.looked += 1
        except CutShort:
            self.seen.cut_short += 1
        self.seen.count(self._comeback, self._last)
        for engine in self._last.engines:
            if not is_gone(engine, ENDS_S):
                self.seen.found.faults.append("an engine outlives its daemon")
        self._last = None

    def _fell(self, blow: Blow) -> None:
        """Take in what the kill found. Raises TimeoutError if it does not fall."""
        if not blow.over.wait(LOAD_S):
            raise TimeoutError("a kill does not fall")
        self._number += 1
        self._last, self._comeback = blow, Comeback(blow.written)
        self.seen.targets[blow.target] += 1
        self.seen.missed += not blow.killed
        self.seen.struck.update(blow.hit)
        if blow.target != "engine":
            for held in self._shelf.all():
                held.may_be_gone = held.may_be_gone or too_young(held, blow.names, blow.at)


def judged(seen: Seen, kills: int) -> Outcome:
    """Figures and targets."""
    found, noted = seen.found, seen.noted
    outcome = Outcome(
        {
            "kills": {**seen.targets, "found_nobody": seen.missed},
            "struck": dict(seen.struck),
            "looked": {"whole": seen.looked, "cut_short": seen.cut_short},
            "names": {"answered": found.answered, "too_young": found.too_young, "strays": found.strays},
            "turns": {
                "asked": seen.turns,
                "judged": found.right + len(found.wrong),
                "unjudged": found.unjudged,
            },
            "calls": {"all": noted.calls, "broken": noted.broken, "not_begun": noted.unanswered},
            "tokens": {name: getattr(seen, name) for name in ("expected", "lost", "unwritten", "unseen")},
            "less_came_back": seen.worst[:SHOWN],
            "wrong": (found.wrong + found.other_prefix)[:SHOWN],
            "lost": found.lost[:SHOWN],
            "faults": (found.faults + noted.faults + noted.early)[:SHOWN],
        }
    )
    outcome.at_most("names that did not answer", len(found.lost), 0)
    outcome.at_most("prefixes that were not what files and texts are", len(found.other_prefix), 0)
    outcome.at_most("wrong answers", len(found.wrong), 0)
    outcome.at_most("other failures than a kill excuses", len(found.faults + noted.faults + noted.early), 0)
    name = "share of the written prefix tokens that came back"
    if seen.expected:
        outcome.at_least(name, 1 - seen.lost / seen.expected, CAME_BACK)
    else:
        outcome.not_measured.append(f"{name} (none was written)")
    name = "moments that no kill struck"
    if kills >= MANY:
        outcome.at_most(name, sum(not seen.struck[each] for each in MOMENTS), 0)
    else:
        outcome.not_measured.append(f"{name} (that takes {MANY} kills)")
    return outcome


def main() -> int:
    """Kill, look, print. 0: all targets were met, 1: not all, 2: it could not be run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS, help="in turn")
    parser.add_argument("--apart", action="store_true", help="no two texts begin with the same token")
    parser.add_argument("--model", default=MODEL, help=f"name or path; empty is the embedded one ({MODEL})")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sd-", ignore_cleanup_errors=True) as name:
        try:
            kills = Kills(
                Path(name), asked.model, asked.kills, asked.seed, asked.targets, alike=not asked.apart
            )
            seen = kills.run()
        except (SessiondError, TimeoutError) as error:
            sys.stderr.write(f"kills: {error}\nThe end of the daemon's log:\n{last_words(Path(name))}\n")
            return 2
    outcome = judged(seen, asked.kills)
    outcome.figures["minutes"] = (time.monotonic() - began) / 60
    told = {"figures": rounded(outcome.figures), "targets": [each.as_dict() for each in outcome.targets]}
    print(json.dumps(told, indent=2))
    sys.stderr.write(table({"kills": outcome}))
    return 1 if missed({"kills": outcome}) else 0


if __name__ == "__main__":
    sys.exit(main())
