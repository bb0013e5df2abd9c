"""How `explain` looks: rendered from a report made by hand."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from rich.console import Console

from sessiond.client.cli.explain_facts import Place, SegmentRow, folded, left_out_rows
from sessiond.client.cli.explain_text import report_lines
from sessiond.client.cli.explain_view import report_view, spread
from sessiond.v1 import context_pb2


def residence(
    path: str, resident: int = 0, memory: int = 0, disk: int = 0, missing: int = 0
) -> context_pb2.SegmentResidence:
    return context_pb2.SegmentResidence(
        segment=context_pb2.ManifestSegment(id=path, path=path, kind="file"),
        resident_tokens=resident,
        memory_tokens=memory,
        disk_tokens=disk,
        missing_tokens=missing,
    )


def report() -> context_pb2.ContextReport:
    return context_pb2.ContextReport(
        resident_tokens=3220,
        prefix_tokens=3705,
        suffix_tokens=120,
        num_ctx=8192,
        available_tokens=4367,
        kv_bytes=74_000_000,
        shared_tokens=900,
        manifest_digest="ab" * 32,
        segments=[
            residence("map", 900),
            residence("src/server/handlers/authentication/a_module_with_a_long_name_indeed.py", 1900),
            residence("src/a.py", 300, 0, 200, 100),
            residence("src/[bold]b.py", 0, 300),
            residence("README\x1b[31m.md", missing=5),
        ],
        last_miss=context_pb2.LastMiss(
            token_index=2920,
            path="src/a.py",
            byte_offset=1212,
            cause="changed",
            before="def f(x):\n\treturn x + 1\x1b[31m",
            after="def f(x):\n\treturn x + 2",
            cost_tokens=705,
            message="src/a.py changed at byte 1212",
        ),
        left_out=[
            *(context_pb2.LeftOut(path=f"build/{number}.o", reason="ignored") for number in range(120)),
            context_pb2.LeftOut(path="logo.png", reason="binary"),
        ],
        expected_edit_cost=context_pb2.ExpectedEditCost(tokens=412.3, by_path_tokens=1890.7),
        busy=context_pb2.Busy(stage="prefix", done_tokens=1024, total_tokens=4096, elapsed_ms=3200),
    )


def rendered(told: context_pb2.ContextReport, width: int = 80, *, everything: bool = False) -> str:
    console = Console(record=True, width=width, file=open("/dev/null", "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    console.print(report_view("sessions/abc", told, everything=everything))
    return console.export_text()


def test_everything_is_seen_at_a_glance() -> None:
    said = rendered(report())
    for words in (
        "sessions/abc",
        "3,825 of 8,192 tokens, 4,367 available",
        "█ resident 3,100",
        "▓ memory 300",
        "▒ disk 200",
        "░ missing 105",
        "█ suffix 120",
        "· free 4,367",
        "900 tokens shared",
        "about 412 tokens are computed again for an edit; it would be 1,891",
        "prefix is running: 1,024 of 4,096 tokens after 3.2 s",
        "████████▒▒▒▒▒░░░     600  src/a.py  200 disk, 100 missing",
        "src/[bold]b.py  300 memory",
        "src/a.py changed at byte 1212",
        "705 tokens computed",
        "- def f(x):\n-     return x + 1[31m",
        "+     return x + 2",
        "ignored     120  build/0.o, build/1.o, build/2.o, and 117 more",
        "binary        1  logo.png",
    ):
        assert words in "\n".join(line.rstrip() for line in said.splitlines()), words
    assert "\x1b" not in said


@pytest.mark.parametrize("width", [24, 40, 59, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_no_name_is_lost(width: int) -> None:
    said = rendered(report(), width)
    assert max(cell_len(line) for line in said.splitlines()) <= width
    words = "".join(said.split())
    assert "long_name_indeed.py" in words.replace("█", "") or width < 60
    for number in ("3,825", "4,367", "1,900", "117"):
        assert number in said


def test_the_bar_of_the_window_is_as_wide_as_the_terminal() -> None:
    bar = next(line for line in rendered(report(), 80).splitlines() if line.startswith("█") and "···" in line)
    assert len(bar) == 80
    assert bar.count("█") > bar.count("▓") > 0
    assert bar.count("░") >= 1


def test_what_is_not_resident_is_never_folded_away() -> None:
    told = report()
    told.segments.extend(residence(f"f{number}.py", number) for number in range(100))
    told.segments.append(residence("late.py", missing=1))
    said = rendered(told)
    assert "late.py" in said
    assert "and 76 more segments (--all shows them)" in said
    everything = rendered(told, everything=True)
    assert "f0.py" in everything
    assert "more segments" not in everything
    assert "119.o" in everything


def test_an_empty_closed_and_dead_session_is_told_as_such() -> None:
    said = rendered(
        context_pb2.ContextReport(num_ctx=4096, available_tokens=4096, closed=True, fatal_cause="signal 11")
    )
    assert "0 of 4,096 tokens" in said
    assert "the backend died: signal 11" in said
    assert "closed" in said
    assert "SEGMENT" not in said
    rendered(context_pb2.ContextReport())


def test_the_plain_form_has_the_same_facts() -> None:
    lines = list(report_lines("sessions/abc", report()))
    assert "600\t300\t0\t200\t100\tsrc/a.py" in lines
    assert "last miss: src/a.py changed at byte 1212" in lines
    assert any(line.startswith("edit cost: about 412 tokens") and "1,891" in line for line in lines)
    assert not any("edit cost" in line for line in report_lines("sessions/abc", context_pb2.ContextReport()))
    assert "left out, ignored: 120 files, such as build/0.o, build/1.o, build/2.o" in lines
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 7, 16, 80])
@pytest.mark.parametrize("shares", [[1], [5, 5], [1000, 1, 0, 1], [1, 1, 1, 1], [0, 7, 0], [8191, 1], [0, 0]])
def test_spread_gives_every_cell_away(shares: list[int], width: int) -> None:
    cells = spread(shares, width)
    assert sum(cells) == (width if sum(shares) else 0)
    assert all(cell >= 0 for cell in cells)
    present = [cell for cell, share in zip(cells, shares, strict=True) if share]
    if len(present) <= width:
        assert all(cell >= 1 for cell in present)
    assert all(cell == 0 for cell, share in zip(cells, shares, strict=True) if not share)


def test_folding_keeps_the_order() -> None:
    rows = [
        SegmentRow(str(tokens), dict.fromkeys(Place, 0) | {Place.RESIDENT: tokens}) for tokens in (3, 9, 1, 5)
    ]
    shown, hidden = folded(rows, 2)
    assert [row.label for row in shown] == ["9", "5"]
    assert [row.label for row in hidden] == ["3", "1"]


def test_left_out_is_counted_by_reason() -> None:
    rows = left_out_rows(report().left_out)
    assert [(row.reason, row.files, len(row.examples)) for row in rows] == [
        ("ignored", 120, 3),
        ("binary", 1, 1),
    ]
