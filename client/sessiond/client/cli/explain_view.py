"""`explain` for a person at a terminal: what is resident at a glance, and why the rest is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from sessiond.client.cli.explain_facts import (
    Place,
    SegmentRow,
    busy_sentence,
    edit_cost_sentence,
    folded,
    left_out_rows,
    segment_rows,
    together,
)
from sessiond.client.cli.numbers import count, size
from sessiond.client.cli.terminal_text import clean, clean_line

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from sessiond.v1.context_pb2 import ContextReport, LastMiss

_SHOWN_SEGMENTS = 30
_ROW_BAR_CELLS = 16
_NARROW_CELLS = 60  # a terminal below this width gets shorter bars

# One glyph and one colour for each place, so that the bars can be read without colours too.
_PLACE_LOOKS = {
    Place.RESIDENT: ("█", "green"),
    Place.MEMORY: ("▓", "cyan"),
    Place.DISK: ("▒", "blue"),
    Place.MISSING: ("░", "red"),
}
_SUFFIX_LOOK = ("█", "magenta")
_FREE_LOOK = ("·", "bright_black")

Look = tuple[str, str]


def report_view(name: str, report: ContextReport, *, everything: bool = False) -> RenderableType:
    """The report as something that rich prints at any width. `everything` folds nothing away."""
    rows = segment_rows(report)
    parts: list[RenderableType] = [_head(name, report), _window(report, rows)]
    if rows:
        parts.append(_Segments(rows, len(rows) if everything else _SHOWN_SEGMENTS))
    if report.HasField("last_miss"):
        parts.append(_miss(report.last_miss))
    if report.left_out:
        parts.append(_left_out(report, None if everything else 3))
    return Group(*(Padding(part, (0, 0, 1, 0)) for part in parts[:-1]), parts[-1])


class _Bar:
    """Shares of a whole, side by side, as wide as the room that is left or as `cells`."""

    def __init__(self, shares: Sequence[tuple[int, Look]], cells: int | None = None) -> None:
        self._shares = shares
        self._cells = cells

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(self._cells or options.max_width, options.max_width)
        for cells, (glyph, colour) in zip(
            spread([share for share, _ in self._shares], width),
            (look for _, look in self._shares),
            strict=True,
        ):
            if cells:
                yield Segment(glyph * cells, Style(color=colour))
        yield Segment.line()

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        width = min(self._cells or options.max_width, options.max_width)
        return Measurement(min(4, width), width)


def spread(shares: Sequence[int], width: int) -> list[int]:
    """Cells for each share, `width` together. Whatever is not nothing gets at least one, if there is room."""
    whole = sum(shares)
    if whole <= 0 or width <= 0:
        return [0] * len(shares)
    cells = [max(1, share * width // whole) if share > 0 else 0 for share in shares]
    everyone = range(len(shares))
    while (over := sum(cells) - width) != 0:
        if (
            over > 0
        ):  # the ones that were given a cell for nothing: the widest pays, of equals the one that has least
            cells[max(everyone, key=lambda index: (cells[index], -shares[index]))] -= 1
        else:
            cells[max(everyone, key=lambda index: shares[index] * width / whole - cells[index])] += 1
    return cells


def _place_shares(places: dict[Place, int]) -> list[tuple[int, Look]]:
    return [(places[place], _PLACE_LOOKS[place]) for place in Place]


def _head(name: str, report: ContextReport) -> RenderableType:
    lines = [Text(clean_line(name), style="bold")]
    facts = [f"{size(report.kv_bytes)} of KV"]
    if report.shared_tokens:
        facts.append(f"{count(report.shared_tokens)} tokens shared with other sessions")
    if report.manifest_digest:
        facts.append(f"manifest {clean_line(report.manifest_digest)[:12]}")
    lines.append(Text(" · ".join(facts), style="dim"))
    if edit_cost := edit_cost_sentence(report):
        lines.append(Text(edit_cost, style="dim"))
    if busy := busy_sentence(report):
        lines.append(Text(busy, style="yellow"))
    if report.fatal_cause:
        lines.append(Text(f"the backend died: {clean_line(report.fatal_cause)}", style="bold red"))
    if report.closed:
        lines.append(Text("closed", style="bold red"))
    return Group(*lines)


def _window(report: ContextReport, rows: list[SegmentRow]) -> RenderableType:
    """The whole window as one bar, with its legend."""
    places = together(rows)
    if not rows:
        places[Place.RESIDENT] = report.prefix_tokens
    used = sum(places.values()) + report.suffix_tokens
    free = max(0, report.num_ctx - used)
    shares = [
        *(
            (count_, look, place.value)
            for (count_, look), place in zip(_place_shares(places), Place, strict=True)
        ),
        (report.suffix_tokens, _SUFFIX_LOOK, "suffix"),
        (free, _FREE_LOOK, "free"),
    ]
    legend = [
        Text(glyph, style=colour, end="").append(f" {word} {count(tokens)}", style="default")
        for tokens, (glyph, colour), word in shares
        if tokens
    ]
    totals = Text(f"{count(used)} of {count(report.num_ctx)} tokens", style="bold")
    totals.append(f", {count(report.available_tokens)} available", style="not bold")
    return Group(
        totals, _Bar([(tokens, look) for tokens, look, _ in shares]), Columns(legend, padding=(0, 2))
    )


class _Segments:
    """A row for each segment: a bar of where it is, its tokens, its name."""

    def __init__(self, rows: list[SegmentRow], limit: int) -> None:
        self._shown, self._hidden = folded(rows, limit)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        cells = _ROW_BAR_CELLS if options.max_width >= _NARROW_CELLS else _ROW_BAR_CELLS // 2
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("WHERE", width=cells)
        table.add_column("TOKENS", justify="right", no_wrap=True)
        table.add_column("SEGMENT", overflow="fold", ratio=1)
        for row in self._shown:
            _add_row(table, cells, row.places, Text(row.label))
        if self._hidden:
            label = Text(f"and {count(len(self._hidden))} more segments (--all shows them)", style="dim")
            _add_row(table, cells, together(self._hidden), label)
        yield table


def _add_row(table: Table, cells: int, places: dict[Place, int], label: Text) -> None:
    absent = [place for place in (Place.MEMORY, Place.DISK, Place.MISSING) if places[place]]
    for place in absent:
        label.append("  " if place is absent[0] else ", ")
        label.append(f"{count(places[place])} {place.value}", style=_PLACE_LOOKS[place][1])
    table.add_row(_Bar(_place_shares(places), cells), count(sum(places.values())), label)


def _miss(miss: LastMiss) -> RenderableType:
    lines: list[RenderableType] = [
        Text("Why the last prefix was not reused whole", style="bold"),
        Text(clean_line(miss.message) or clean_line(miss.cause)),
        Text(
            f"{clean_line(miss.path or miss.segment_id) or 'the prefix'}, byte {count(miss.byte_offset)}, "
            f"token {count(miss.token_index)} · {count(miss.cost_tokens)} tokens computed for it",
            style="dim",
        ),
    ]
    for sign, excerpt, colour in (("-", miss.before, "red"), ("+", miss.after, "green")):
        lines.extend(
            Text(f"{sign} {line}", style=colour) for line in clean(excerpt).expandtabs(4).splitlines()
        )
    return Group(*lines)


def _left_out(report: ContextReport, examples: int | None) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("LEFT OUT", no_wrap=True)
    table.add_column("FILES", justify="right", no_wrap=True)
    table.add_column("SUCH AS" if examples else "WHICH", overflow="fold", ratio=1)
    for row in left_out_rows(report.left_out, examples):
        more = row.files - len(row.examples)
        named = Text(", ".join(row.examples))
        if more:
            named.append(f", and {count(more)} more", style="dim")
        table.add_row(Text(row.reason), count(row.files), named)
    return table
