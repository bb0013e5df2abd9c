"""The tables of a run, for a terminal. What says nothing is told in words instead of a figure."""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmark.judge import HOPELESS_AFTER, NOT_MEASURED, Verdict, background, judged
from benchmark.results import Report, Row
from benchmark.statistics import CONFIDENCE, Estimate

WIDTH = 200
"""Characters, where the output is no terminal."""
_MOST_LOAD = 0.1
"""Of the machine that others had, from which on a row says so."""
_NO_REPEAT = "no repeat came to its end"
_NO_FIGURE = {
    "first_token_ms": "it answered, but no time was noted",
    "token_ms": "it answered, but a single token came, or the streams never ran at one time",
}
"""Why a side that took part has no figure, by the row's metric."""


def tables(report: Report, width: int | None = None, *, color: bool = False) -> str:
    """All of them as text."""
    page = io.StringIO()
    console = Console(file=page, width=width or WIDTH, force_terminal=color, highlight=False)
    verdicts = judged(report)
    if verdicts:
        console.print(_rows(report, verdicts))
    for each in _others(report):
        console.print(each)
    for sentence in [*(f"thinking     {told}" for told in thinking(report)), *sentences(report, verdicts)]:
        console.print(Text(sentence))
    return page.getvalue()


def beside_the_rows(report: Report) -> str:
    """The tables of what is no row, as text."""
    page = io.StringIO()
    console = Console(file=page, width=WIDTH, highlight=False)
    for each in _others(report):
        console.print(each)
    return page.getvalue()


def _others(report: Report) -> list[Table]:
    made = {_day: report.day, _caching: report.caching, _memory: report.memory}
    return [draw(report) for draw, found in made.items() if found]


def thinking(report: Report) -> list[str]:
    """How long our background took after a save, by row. A turn that comes later than that finds all of it done."""
    [ours, *_] = [*report.role("ours"), ""]
    found = {row.key: each for row in report.rows if (each := background(row, ours))}
    return [f"{key}: {_thought(each)}" for key, each in found.items()]


def sentences(report: Report, verdicts: Sequence[Verdict]) -> list[str]:
    """What falls short, what is not known, where a peer is faster, what was not measured, what disturbed."""
    found: list[str] = []
    for verdict in verdicts:
        key, row = verdict.row.key, verdict.row
        found += [f"FALLS SHORT  {key}: {told}" for told in verdict.shortfalls]
        found += [
            f"not known    {key}: {told}" for told in verdict.unknown if not told.endswith(NOT_MEASURED)
        ]
        found += [f"peer faster  {key}: {told}" for told in verdict.faster]
        if row.load and (load := statistics.median(row.load)) > _MOST_LOAD:
            found.append(f"disturbed    {key}: others had {load:.0%} of the machine")
    sides = [side.name for side in report.sides]
    found += [f"not measured {told}" for told in [*_absent(verdicts, sides), *report.not_measured]]
    return found + [f"note         {told}" for told in report.notes]


def _absent(verdicts: Sequence[Verdict], sides: Sequence[str]) -> list[str]:
    """Sides that rows lack, each reason once."""
    lacking: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        for side, why in (verdict.row.not_measured | _unexplained(verdict, sides)).items():
            lacking.setdefault((side, why), []).append(verdict)
    return [f"{side}, in {_named(found, verdicts)}: {why}" for (side, why), found in lacking.items()]


def _unexplained(verdict: Verdict, sides: Sequence[str]) -> dict[str, str]:
    """Why sides have no figure of which the run noted nothing: no cell is empty without a reason."""
    noted = verdict.row.not_measured
    if "all" in noted:
        return {}
    return {side: _why(verdict.row, side) for side in sides if side not in {*verdict.sides, *noted}}


def _why(row: Row, side: str) -> str:
    answered = any(took is not None for took in row.samples.get(side, []))
    return _NO_FIGURE[row.metric] if answered else _NO_REPEAT


def _named(some: Sequence[Verdict], verdicts: Sequence[Verdict]) -> str:
    """Rows by their names; all of a depth, or of the run, in a word."""
    if len(some) == len(verdicts):
        return "every row"
    names: list[str] = []
    for depth in dict.fromkeys(each.row.depth for each in some):
        keys = [each.row.key for each in some if each.row.depth == depth]
        is_whole = len(keys) == sum(each.row.depth == depth for each in verdicts)
        names += [f"every row @ {depth}"] if is_whole else keys
    return "; ".join(names)


def milliseconds(found: Estimate | None) -> str:
    """A figure with its interval, or why there is none. Of who is left out after two samples, both."""
    if found is None:
        return "-"
    if found.samples == HOPELESS_AFTER:
        return f"{_short(found.low)}; {_short(found.high)}"
    if found.fault:
        return found.fault
    return f"{_short(found.median)} [{_short(found.low)}, {_short(found.high)}]"


def _thought(found: Estimate) -> str:
    """How long the background took, as `milliseconds`, in seconds."""
    if found.fault:
        return f"how long the background took is not known: {found.fault}"
    median, low, high = (_short(each / 1e3) for each in (found.median, found.low, found.high))
    return f"the background took {median} s [{low}, {high}]"


def times(found: Estimate | None) -> str:
    """A ratio with its interval, or why there is none."""
    if found is None:
        return "-"
    if found.fault:
        return found.fault
    return f"{found.median:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _rows(report: Report, verdicts: Sequence[Verdict]) -> Table:
    title = f"{report.model.name}, {report.machine.cpu}, {report.machine.cores} cores"
    told = f"milliseconds to the first token, or for each token; median [{CONFIDENCE:.0%} interval], or two samples\n"
    told += "; ".join([f"{report.model.backend} {report.model.backend_version}", *report.model.notes])
    made = Table(title=title, caption=told, title_justify="left", caption_justify="left")
    made.add_column("depth", justify="right")
    made.add_column("turn")
    for side in report.sides:
        made.add_column(side.name, justify="right", overflow="fold")
    for head in ("of the floor", "best peer, of ours"):
        made.add_column(head, justify="right")
    made.add_column("", no_wrap=True)
    depth = None
    for verdict in verdicts:
        row = verdict.row
        if depth not in {None, row.depth}:
            made.add_section()
        depth = row.depth
        cells = [f"{row.depth:,}", row.label]
        cells += [milliseconds(verdict.sides.get(side.name)) for side in report.sides]
        made.add_row(*cells, times(verdict.to_floor), times(verdict.to_peer), mark(verdict))
    return made


def mark(verdict: Verdict) -> str:
    """How a row does, in two words."""
    if verdict.shortfalls:
        return "FALLS SHORT"
    if verdict.unknown:
        return "not known"
    return "holds" if verdict.row.limit.floor_ratio or verdict.row.limit.peer_ratio else ""


def _day(report: Report) -> Table:
    made = Table(title="a day of edits: first token in milliseconds, median", title_justify="left")
    if any(took is None for turn in report.day for took in turn.took.values()):
        made.caption = "- means that the side answered no question of that kind; medians leave out what a side did not answer"
        made.caption_justify = "left"
    made.add_column("after")
    made.add_column("turns", justify="right")
    for side in report.sides:
        made.add_column(side.name, justify="right", overflow="fold")
    for kind in dict.fromkeys(turn.kind for turn in report.day):
        turns = [turn for turn in report.day if turn.kind == kind]
        cells: list[str] = []
        for side in report.sides:
            values = [took.first_token_ms for turn in turns if (took := turn.took.get(side.name))]
            cells.append(_short(statistics.median(values)) if values else "-")
        made.add_row(kind, str(len(turns)), *cells)
    return made


def _caching(report: Report) -> Table:
    made = Table(title="one prompt, many questions, with the low-level functions alone", title_justify="left")
    made.add_column("step")
    for head in ("ms", "tokens", "tokens/s", "MiB", "times"):
        made.add_column(head, justify="right")
    for row in report.caching:
        speed = f"{row.tokens / row.ms * 1e3:,.0f}" if row.tokens and row.ms else ""
        size = f"{row.size_bytes / 2**20:,.1f}" if row.size_bytes else ""
        made.add_row(row.name, f"{row.ms:,.2f}", f"{row.tokens:,}", speed, size, str(row.times))
    return made


def _memory(report: Report) -> Table:
    made = Table(title="memory of all engines together, in MiB", title_justify="left")
    made.add_column("with")
    for head in ("proportional", "more", "weights, mapped", "anonymous"):
        made.add_column(head, justify="right")
    before = 0
    for row in report.memory:
        more = f"{(row.pss_bytes - before) / 2**20:+,.0f}" if before else ""
        sizes = (row.weights_bytes, row.anonymous_bytes)
        made.add_row(
            row.name, f"{row.pss_bytes / 2**20:,.0f}", more, *(f"{size / 2**20:,.0f}" for size in sizes)
        )
        before = row.pss_bytes
    return made


def _short(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
