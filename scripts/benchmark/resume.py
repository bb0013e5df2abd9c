"""Going on with a run that ended before all of its rows had their time: what it has is kept, and the rest is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchmark.classes import Scenario
from benchmark.results import NoResults, Report, Row
from benchmark.statistics import LEAST_SAMPLES


def resumed(former: Report, now: Report) -> Report:
    """A report of this run that has all of the former one. Raises NoResults where the two do not belong together."""
    if why := _strangers(former, now):
        raise NoResults(f"the run cannot go on: {why}")
    sides = {side.name: side for side in former.sides}
    for side in now.sides:
        if before := sides.get(side.name):
            side.flags, side.flags_by_work = before.flags, before.flags_by_work
    now.began, now.seconds = former.began, former.seconds
    for row in former.rows:
        row.version = row.version or former.version
    # What was left out for want of time is said anew, if it still is.
    now.rows, now.machine = former.rows, former.machine
    now.caching, now.memory, now.notes = former.caching, former.memory, former.notes
    now.day, now.day_history = former.day, former.day_history
    return now


def missing(report: Report, scenarios: Iterable[Scenario]) -> list[Scenario]:
    """Those that have a row without enough samples of ours and the floor. Their rows leave the report: they are made anew."""
    kept = {row.key for row in report.rows if _is_done(row, report)}
    found = [scenario for scenario in scenarios if not kept.issuperset(row.key for row in scenario.rows)]
    anew = {row.key for scenario in found for row in scenario.rows}
    report.rows = [row for row in report.rows if row.key not in anew]
    return found


def in_order(rows: Iterable[Row], order: Mapping[str, int]) -> list[Row]:
    """By their place in the plan, whenever they were made; first those that are not in it."""
    return sorted(rows, key=lambda row: order.get(row.key, -1))


def _is_done(row: Row, report: Report) -> bool:
    needed = [*report.role("ours"), *report.role("floor")]
    return all(_samples(row, side) >= LEAST_SAMPLES for side in needed)


def _samples(row: Row, side: str) -> int:
    return sum(value is not None for value in row.values(side))


def _strangers(former: Report, now: Report) -> str:
    """Why rows of one run do not belong beside those of the other; empty if they do."""
    facts = {
        "the model": (former.model.digest, now.model.digest),
        "the texts": (former.texts_digest, now.texts_digest),
        "the processor": (former.machine.cpu, now.machine.cpu),
        "the number of cores": (former.machine.cores, now.machine.cores),
        "what the daemon measured to be fastest": (former.machine.chosen, now.machine.chosen),
        "the list of sides": ({side.name for side in former.sides}, {side.name for side in now.sides}),
    }
    return ", ".join(f"{what} is another one" for what, (before, after) in facts.items() if before != after)
