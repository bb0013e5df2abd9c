"""One run: daemon and others are started, every depth's scenarios are done, and what was found is kept all the while."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType

from benchmark import classes, day, memory, peer_server, prompt_caching, resume
from benchmark.budget import Budget
from benchmark.classes import Desk, Scenario
from benchmark.floor import Floor
from benchmark.judge import beaten
from benchmark.machine import machine, model_facts, our_version, texts_digest
from benchmark.ours import Ours
from benchmark.peer_python import PythonServer
from benchmark.peer_server import LlamaServer
from benchmark.plan import Repeats, Round, begin_all
from benchmark.progress import Progress
from benchmark.results import FORMAT, MOST_SENTENCE, Report, SideFacts
from benchmark.sides import Side, Work
from benchmark.texts import Texts
from benchmark.took import NotMeasured
from benchmark.versions import Versions
from sessiond.client import Config, SessiondError

MOST_CTX = 1 << 17
"""Of a model that says it was trained for more."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run is to do."""

    quick: bool
    classes: list[str]
    depths: list[int]
    suffixes: list[int]
    """Lengths of the suffixes that are tried, where they fit."""
    model: str
    peer: Path | None
    """llama-server; None leaves the peers out."""
    python_peer: bool
    seconds: float
    repeats: int
    """Of a scenario, at most."""
    think_seconds: float
    clients: int
    answer: int
    repo: Path
    commits: int
    planted: float
    measure: bool
    """Whether the daemon may find out how the model runs fastest, before anything is timed."""
    former: Report | None = None
    """A run that is to be gone on with."""


@dataclass(slots=True)
class Run:
    """What is there while it is measured."""

    asked: Asked
    folder: Path
    progress: Progress
    keep: Callable[[Report], None]
    """Called after every scenario, so that an interruption loses little."""
    ours: Ours
    sides: list[Side]
    texts: Texts
    versions: Versions
    report: Report
    began: float = field(default_factory=time.monotonic)
    before: float = 0.0
    """Seconds of the run that this one goes on with."""

    def note(self, what: str) -> None:
        """Something that was left out."""
        what = what[:MOST_SENTENCE]
        if what not in self.report.not_measured:
            self.report.not_measured.append(what)

    def save(self) -> None:
        """Bring the report up to date and keep it."""
        self.report.seconds = round(self.before + time.monotonic() - self.began, 1)
        self.keep(self.report)

    def note_flags(self, work: Work, absent: Container[str], *, rows: bool) -> None:
        """How each side runs now, if it does. What it runs with for rows is what a page shows."""
        sides = {side.name: side for side in self.sides if side.name not in absent}
        for facts in self.report.sides:
            if side := sides.get(facts.name):
                facts.flags_by_work[work.name] = flags = list(side.flags)
                if rows:
                    facts.flags = flags


def measured(asked: Asked, folder: Path, progress: Progress, keep: Callable[[Report], None]) -> Report:
    """Do all of it. Raises SessiondError and TimeoutError if the daemon cannot be worked with, RuntimeError if the sides
    would not have the same work, NoResults if it cannot go on with the former run.
    """
    with contextlib.ExitStack() as stack:
        progress.say("the daemon starts" + (", and measures how the model runs fastest" * asked.measure))
        ours = Ours(folder, asked.model, asked.think_seconds, asked.planted, measure=asked.measure)
        stack.callback(ours.close)
        sides: list[Side] = [ours, Floor(), *_peers(asked, folder)]
        for side in sides[1:]:
            stack.callback(side.close)
        texts = Texts(ours.client)
        ours.avoid(texts.end_tokens)
        report = _empty(ours, sides)
        if asked.former:
            report = resume.resumed(asked.former, report)
        # The client is asked for anew each time: the daemon may have been started again.
        versions = Versions(texts, lambda text: list(ours.client.tokenize(text).token_ids))
        run = Run(asked, folder, progress, keep, ours, sides, texts, versions, report, before=report.seconds)
        if asked.measure and not report.machine.ways:
            run.note("how the model runs fastest: the machine was busy, or there is nothing to choose")
        _depths(run)
        _beside(run)
        run.save()
        return run.report


def _peers(asked: Asked, folder: Path) -> list[Side]:
    if asked.peer is None:
        return []
    variants = peer_server.QUICK if asked.quick else peer_server.FULL
    found: list[Side] = [LlamaServer(asked.peer, variant, folder) for variant in variants]
    if asked.python_peer:
        found += [PythonServer(folder, cached=False), PythonServer(folder, cached=True)]
    return found


def _empty(ours: Ours, sides: list[Side]) -> Report:
    return Report(
        format=FORMAT,
        version=our_version(),
        began=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=0.0,
        asked={},
        machine=machine(ours.ways()),
        model=model_facts(ours.client, Config()),
        texts_digest=texts_digest(),
        sides=[
            SideFacts(side.name, side.role, version=side.version() if isinstance(side, LlamaServer) else "")
            for side in sides
        ],
        rows=[],
        not_measured=[],
    )


def _desks(run: Run) -> list[Desk]:
    """One for each depth that fits into the model's window."""
    asked, found = run.asked, list[Desk]()
    window = min(run.ours.client.model().num_ctx_train or MOST_CTX, MOST_CTX)
    for depth in asked.depths:
        lengths = classes.fitting(depth, window, asked.answer, asked.suffixes)
        if asked.quick:
            lengths = tuple(tokens for tokens in lengths if tokens <= classes.QUICK_SUFFIX)
        elif missing := [str(tokens) for tokens in asked.suffixes if tokens not in lengths]:
            told = f"suffixes of {', '.join(missing)}" if lengths else "anything"
            run.note(f"{told} at {depth:,}: more than the model's window of {window:,} tokens")
        if lengths:
            found.append(Desk(depth, run.versions, lengths, asked.clients, asked.answer, deeper=bool(found)))
    return found


def _depths(run: Run) -> None:
    desks = _desks(run)
    whole = [
        classes.scenarios(desk, run.asked.classes, quick=run.asked.quick, most=run.asked.repeats)
        for desk in desks
    ]
    keys = [row.key for scenarios in whole for scenario in scenarios for row in scenario.rows]
    order = {key: place for place, key in enumerate(keys)}
    planned = [resume.missing(run.report, scenarios) for scenarios in whole]
    weights = [_weight(scenario, len(run.sides)) for scenarios in planned for scenario in scenarios]
    extras = [name for name in EXTRAS if name in run.asked.classes and not getattr(run.report, name)]
    beside = run.asked.seconds * sum(EXTRA_SHARES[name] for name in extras)
    seconds = run.asked.seconds - beside - (time.monotonic() - run.began)
    budget, index = Budget(seconds, weights, time.monotonic()), 0
    if len(desks) > 1 and "crowd" in run.asked.classes:
        run.note("clients at once, at other depths than the least: peers would compute hours for them")
    for desk, scenarios in zip(desks, planned, strict=True):
        if not scenarios:
            continue
        round_ = _begun(run, desk, _left_out(run, desk))
        if scenarios[0].kind != "cold":
            first = classes.cold(desk)
            nothing = Budget(0.0, [1], time.monotonic())
            Repeats(round_, first, nothing, 0, lambda _what: None, must=True).run()
        for scenario in scenarios:
            for row in scenario.rows:
                row.version = run.report.version
            run.report.rows = resume.in_order([*run.report.rows, *scenario.rows], order)
            show = partial(_show, run, index, len(weights), budget, beside)
            Repeats(round_, scenario, budget, index, show).run()
            index += 1
            run.save()


def _weight(scenario: Scenario, sides: int) -> int:
    """Of a scenario's time: about what its repeats compute that it is to have."""
    return scenario.cost * scenario.wanted * sides


def _show(run: Run, index: int, of: int, budget: Budget, beside: float, what: str) -> None:
    run.progress.show(index, of, what, budget.left(time.monotonic()) + beside)


def _left_out(run: Run, desk: Desk) -> dict[str, str]:
    """Sides that would cost hours at this depth and say little, and why. All of them are measured at the least depth."""
    if not desk.deeper:
        return {}
    python = [side.name for side in run.sides if isinstance(side, PythonServer)]
    others = [peer for peer in run.report.role("peer") if peer not in python]
    found = dict.fromkeys(
        beaten(run.report, others), "at the least depth alone, where another one was as fast in every row"
    )
    return found | dict.fromkeys(python, "at the least depth alone, where it is measured in every row")


def _begun(run: Run, desk: Desk, left_out: Mapping[str, str]) -> Round:
    """All sides, ready for this depth. Ours comes first, as the others run the model as it does."""
    window = classes.window_of(desk.depth, desk.suffixes, desk.answer)
    others = classes.window_of(desk.depth, (classes.SUFFIX,), desk.answer)
    return _ready(run, Work(f"{desk.depth}", window, desk.clients, others), left_out, rows=True)


def _ready(
    run: Run, work: Work, left_out: Mapping[str, str] = MappingProxyType({}), *, rows: bool = False
) -> Round:
    run.progress.say(f"{work.name}: all sides start")
    round_ = Round(run.sides)

    def begin(side: Side) -> None:
        if why := left_out.get(side.name):
            side.close()
            raise NotMeasured(why)
        if isinstance(side, Floor | LlamaServer | PythonServer):
            side.like(run.ours.runtime())
        side.begin(work)

    begin_all(round_, begin)
    if rows or not run.report.rows:
        run.report.model = model_facts(run.ours.client, run.ours.config())
    run.note_flags(work, round_.absent, rows=rows)
    for name, why in round_.absent.items():
        run.progress.say(f"{name} is not measured: {why}")
    return round_


def _beside(run: Run) -> None:
    """What is asked for beside the rows."""
    for name, measure in EXTRAS.items():
        if name in run.asked.classes and not getattr(run.report, name):
            run.progress.say(f"{name}")
            try:
                measure(run)
            except (NotMeasured, SessiondError, TimeoutError, RuntimeError) as error:
                run.note(f"{name}: {error}")
            run.save()


def _caching(run: Run) -> None:
    depth = min(run.asked.depths)
    floor = next(side for side in run.sides if isinstance(side, Floor))
    work = Work("caching", depth + prompt_caching.ROOM, 1)
    run.ours.begin(work)
    floor.like(run.ours.runtime())
    floor.begin(work)
    run.report.caching = prompt_caching.measured(floor, run.texts, depth)


def _memory(run: Run) -> None:
    # A page's share is split among all who map it, so nobody else may map the weights now. `begin` starts all sides again.
    for side in run.sides:
        if side is not run.ours:
            side.close()
    with run.ours.paused():
        rows, notes = memory.measured(run.folder, run.asked.model)
    run.report.memory = rows
    run.report.notes += notes


def _day(run: Run) -> None:
    depth = max(
        depth for depth in run.asked.depths if depth <= day.MOST_TOKENS or depth == min(run.asked.depths)
    )
    round_ = _ready(run, Work("day", depth + day.ROOM, 1))
    seconds = run.asked.seconds * EXTRA_SHARES["day"]
    plan = day.Plan(run.asked.repo, run.asked.commits, depth, seconds, show=partial(_show_day, run))
    lived = day.lived(plan, round_, run.versions, run.ours.client, run.folder / "day")
    run.report.day = lived.turns
    run.report.day_history = lived.history
    if not lived.whole:
        run.report.notes.append(f"the day ended early: its time was over after {len(lived.turns)} questions")


def _show_day(run: Run, done: int, left_s: float) -> None:
    run.progress.show(done, run.asked.commits, "commits of the day", left_s)


EXTRAS: dict[str, Callable[[Run], None]] = {"caching": _caching, "memory": _memory, "day": _day}
"""By the names of `--classes`, which are those of the report's tables."""
EXTRA_SHARES = {"caching": 0.01, "memory": 0.01, "day": 0.1}
"""Of a run's time, which rows leave to them."""
