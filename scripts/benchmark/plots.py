"""The pictures of a run: how the first token grows with the suffix, what each kind of turn costs, and a day's tokens."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.judge import Verdict, judged
from benchmark.results import DayTurn, Report
from benchmark.statistics import Estimate
from benchmark.svg import Drawing, Scale, around, number

WIDTH = 860.0
_LEFT, _RIGHT, _TOP = 70.0, 20.0, 54.0
_PANEL, _LEGEND_LINE, _ROW = 250.0, 20.0, 24.0
_LABELS = 270.0
"""Pixels for the names of events."""
TIERS = ("reused_tokens", "restored_tokens", "prefilled_tokens")


def pictures(report: Report) -> dict[str, str]:
    """SVG by file name; a picture of which nothing was measured is not there."""
    verdicts, found = judged(report), dict[str, str]()
    if growth := [verdict for verdict in verdicts if verdict.row.kind == "suffix" and verdict.sides]:
        found["suffix-growth.svg"] = str(suffix_growth(report, growth))
    events = [
        verdict
        for verdict in verdicts
        if verdict.row.kind != "suffix" and verdict.row.metric == "first_token_ms" and verdict.sides
    ]
    if events:
        found["events.svg"] = str(by_event(report, events))
    if report.day:
        found["day.svg"] = str(day(report))
    return found


def suffix_growth(report: Report, verdicts: Sequence[Verdict]) -> Drawing:
    """A panel for each depth: milliseconds to the first token over tokens of the suffix, both logarithmic."""
    depths = sorted({verdict.row.depth for verdict in verdicts})
    legend = _legend_height(report, verdicts)
    drawing = Drawing(
        WIDTH,
        _TOP + legend + len(depths) * (_PANEL + 56) + 10,
        "Time to the first token against the length of the suffix",
        _all_told(verdicts),
    )
    _head(drawing, report, "First token against new tokens, milliseconds, the prefix hot", verdicts)
    low, high = _range(verdicts)
    across = around([max(1, verdict.row.suffix) for verdict in verdicts])
    for index, depth in enumerate(depths):
        top = _TOP + legend + 26 + index * (_PANEL + 56)
        x = Scale(*across, _LEFT, WIDTH - _RIGHT, log=True)
        y = Scale(low, high, top + _PANEL, top, log=True)
        of_depth = [verdict for verdict in verdicts if verdict.row.depth == depth]
        _frame(drawing, y, f"prefix of {depth:,} tokens", top)
        for verdict in of_depth:
            drawing.text(x(verdict.row.suffix), top + _PANEL + 18, f"{verdict.row.suffix:,}", anchor="middle")
        for number_, side in enumerate(report.sides):
            _curve(drawing, x, y, number_, side.name, of_depth)
    return drawing


def by_event(report: Report, verdicts: Sequence[Verdict]) -> Drawing:
    """A line for each kind of turn, a mark for each side, milliseconds to the first token on a logarithmic axis."""
    depths = sorted({verdict.row.depth for verdict in verdicts})
    legend = _legend_height(report, verdicts)
    height = _TOP + legend + (len(verdicts) + 1.2 * len(depths)) * _ROW + 50
    drawing = Drawing(WIDTH, height, "Time to the first token by kind of turn", _all_told(verdicts))
    told = "First token by kind of turn, milliseconds; whiskers are 90% intervals of the median"
    _head(drawing, report, told, verdicts)
    low, high = _range(verdicts)
    x = Scale(low, high, _LABELS, WIDTH - _RIGHT, log=True)
    at = top = _TOP + legend + 6
    marks: list[tuple[float, Verdict]] = []
    for depth in depths:
        at += _ROW
        drawing.text(12, at + 4, f"prefix of {depth:,} tokens", kind="big")
        for verdict in (each for each in verdicts if each.row.depth == depth):
            at += _ROW
            marks.append((at, verdict))
    for tick in x.ticks():
        drawing.line([(x(tick), top), (x(tick), at + 12)], "grid")
        drawing.text(x(tick), at + 28, number(tick), anchor="middle", kind="small")
    for line, verdict in marks:
        drawing.text(_LABELS - 14, line + 4, verdict.row.label, anchor="end")
        for index, side in enumerate(report.sides):
            if found := verdict.sides.get(side.name):
                ends = [(x(found.low), line), (x(found.high), line)]
                _figure(drawing, (x(found.median), line), ends, index, found, _told(side.name, found))
    return drawing


def day(report: Report) -> Drawing:
    """A bar for each question of the day: tokens of the prompt that were there, came back, and were computed."""
    [ours, *_] = [*report.role("ours"), ""]
    turns = [turn for turn in report.day if turn.took.get(ours)]
    drawing = Drawing(WIDTH, 380, "Tokens by tier over a day of edits", _day_told(turns, ours))
    drawing.text(12, 24, "Tokens of each prompt over a day of edits, by where they came from", kind="big")
    for index, (name, told) in enumerate(
        zip(TIERS, ("kept", "brought back from memory", "computed"), strict=True)
    ):
        drawing.rectangle(14 + index * 220, 36, 12, 12, f"f{_TIER_COLORS[name]}")
        drawing.text(32 + index * 220, 47, told)
    most = max((sum(_tiers(turn, ours)) for turn in turns), default=1) or 1
    y = Scale(0, most, 330, 70)
    for tick in y.ticks():
        drawing.line([(_LEFT, y(tick)), (WIDTH - _RIGHT, y(tick))], "grid")
        drawing.text(_LEFT - 8, y(tick) + 4, number(tick), anchor="end", kind="small")
    width = (WIDTH - _LEFT - _RIGHT) / max(1, len(turns))
    for index, turn in enumerate(turns):
        base = 0
        for name, tokens in zip(TIERS, _tiers(turn, ours), strict=True):
            upper, lower = y(base + tokens), y(base)
            told = f"{turn.kind}: {name.partition('_')[0]} {tokens:,}"
            left = _LEFT + index * width
            drawing.rectangle(
                left, upper, max(0.6, width - 0.6), lower - upper, f"f{_TIER_COLORS[name]}", told
            )
            base += tokens
    drawing.line([(_LEFT, 70), (_LEFT, 330), (WIDTH - _RIGHT, 330)], "axis")
    drawing.text((_LEFT + WIDTH) / 2, 356, f"{len(turns):,} questions, in their order", anchor="middle")
    return drawing


_TIER_COLORS = {"reused_tokens": 0, "restored_tokens": 3, "prefilled_tokens": 2}


def _tiers(turn: DayTurn, side: str) -> list[int]:
    took = turn.took.get(side)
    return [getattr(took, name) or 0 if took else 0 for name in TIERS]


def _curve(drawing: Drawing, x: Scale, y: Scale, index: int, name: str, verdicts: Sequence[Verdict]) -> None:
    found = [(verdict.row.suffix, each) for verdict in verdicts if (each := verdict.sides.get(name))]
    drawing.line([(x(tokens), y(each.median)) for tokens, each in found if not each.fault], f"s{index % 8}")
    for tokens, each in found:
        ends = [(x(tokens), y(each.low)), (x(tokens), y(each.high))]
        told = f"{tokens:,} tokens, {_told(name, each)}"
        _figure(drawing, (x(tokens), y(each.median)), ends, index, each, told)


def _figure(
    drawing: Drawing,
    at: tuple[float, float],
    ends: Sequence[tuple[float, float]],
    index: int,
    found: Estimate,
    told: str,
) -> None:
    """A side's mark and its whisker. Of a figure that says little the mark alone, and pale."""
    if found.fault:
        with drawing.pale():
            drawing.mark(*at, index, told)
    else:
        drawing.line(ends, f"s{index % 8}")
        drawing.mark(*at, index, told)


def _range(verdicts: Sequence[Verdict]) -> tuple[float, float]:
    """Ends of the axis of milliseconds: it has room for all that is drawn."""
    found = [each for verdict in verdicts for each in verdict.sides.values()]
    drawn = [value for each in found for value in ((each.median,) if each.fault else (each.low, each.high))]
    return around([max(value, 0.01) for value in drawn])


def _has_pale(verdicts: Sequence[Verdict]) -> bool:
    return any(each.fault for verdict in verdicts for each in verdict.sides.values())


def _frame(drawing: Drawing, y: Scale, told: str, top: float) -> None:
    drawing.text(_LEFT, top - 8, told)
    for tick in y.ticks():
        drawing.line([(_LEFT, y(tick)), (WIDTH - _RIGHT, y(tick))], "grid")
        drawing.text(_LEFT - 8, y(tick) + 4, number(tick), anchor="end", kind="small")
    drawing.line([(_LEFT, top), (_LEFT, top + _PANEL), (WIDTH - _RIGHT, top + _PANEL)], "axis")


def _head(drawing: Drawing, report: Report, title: str, verdicts: Sequence[Verdict]) -> None:
    drawing.text(12, 24, title, kind="big")
    drawing.text(
        12, 42, f"{report.model.name}, {report.machine.cpu}, {report.machine.cores} cores", kind="small"
    )
    for index, side in enumerate(report.sides):
        x, y = _legend_place(index)
        drawing.mark(x, y, index)
        drawing.text(x + 12, y + 4, side.name)
    if _has_pale(verdicts):
        x, y = _legend_place(len(report.sides))
        with drawing.pale():
            drawing.rectangle(x - 4.5, y - 4.5, 9, 9, "ink")
        drawing.text(x + 12, y + 4, "pale: too few or too wide")


def _legend_place(index: int) -> tuple[float, float]:
    return 20 + (index % 4) * 210, _TOP + 4 + (index // 4) * _LEGEND_LINE


def _legend_height(report: Report, verdicts: Sequence[Verdict]) -> float:
    entries = len(report.sides) + _has_pale(verdicts)
    return _LEGEND_LINE * ((entries + 3) // 4)


def _told(side: str, found: Estimate) -> str:
    if found.fault:
        return f"{side}: {found.fault}, about {found.median:.1f} ms"
    return f"{side}: {found.median:.1f} ms [{found.low:.1f}, {found.high:.1f}]"


def _all_told(verdicts: Sequence[Verdict]) -> str:
    """The figures as sentences: a picture is not all that there is."""
    lines = [
        f"{verdict.row.label} at {verdict.row.depth:,}: "
        + ", ".join(f"{name} {found.fault or f'{found.median:.1f}'}" for name, found in verdict.sides.items())
        for verdict in verdicts
    ]
    return f"Median milliseconds to the first token, by kind of turn and side. {'; '.join(lines)}."


def _day_told(turns: Sequence[DayTurn], side: str) -> str:
    sums = [sum(column) for column in zip(*(_tiers(turn, side) for turn in turns), strict=True)] or [0, 0, 0]
    return (
        f"Over {len(turns):,} questions {sums[0]:,} tokens were there, {sums[1]:,} were brought back from memory "
        f"and {sums[2]:,} were computed."
    )
