"""A run as committed pages: a folder under docs/benchmarks with its results, tables and plots, and an excerpt for the README.

The pages say nothing that the results do not: `stale` makes them anew and compares. What a person has to say of a run
stands in a file of its own, `notes.md`, which is only linked to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmark import plots, results, table
from benchmark.judge import Verdict, judged
from benchmark.results import NoResults, Report, SideFacts
from benchmark.texts import SOURCE

FOLDER = SOURCE / "docs" / "benchmarks"
README = SOURCE / "README.md"
RESULTS, PAGE, NOTES = "results.json", "README.md", "notes.md"
_BEGIN, _END = "<!-- figures of {} -->", "<!-- end of figures -->"
_EXCERPT = re.compile(r"<!-- figures of (\S+) -->\n.*?<!-- end of figures -->", re.DOTALL)


def publish(report: Report, name: str, root: Path = FOLDER) -> Path:
    """Write a run's folder, and what the README excerpts from it. Raises OSError."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    results.written(folder / RESULTS, results.encoded(report))
    for file, text in pages(report, folder).items():
        results.written(folder / file, text.encode())
    return folder


def excerpted(readme: str, root: Path = FOLDER) -> str:
    """The README with its figures made anew from the results that it names. Raises NoResults."""

    def figures(found: re.Match[str]) -> str:
        path = found[1]
        report = results.read(root / Path(path).relative_to("docs/benchmarks"))
        return f"{_BEGIN.format(path)}\n{excerpt(report, str(Path(path).parent))}{_END}"

    return _EXCERPT.sub(figures, readme)


def stale(root: Path = FOLDER, readme: Path = README) -> list[str]:
    """Committed files that are not what the results make. Raises NoResults."""
    found: list[str] = []
    for path in sorted(root.glob(f"*/{RESULTS}")):
        report, folder = results.read(path), path.parent
        wanted = pages(report, folder)
        found += [f"{folder.name}/{file}" for file, text in wanted.items() if _text(folder / file) != text]
        known = {RESULTS, NOTES, *wanted}
        found += [f"{folder.name}/{each.name}" for each in folder.iterdir() if each.name not in known]
    text = _text(readme)
    return found + ([readme.name] if excerpted(text, root) != text else [])


def pages(report: Report, folder: Path) -> dict[str, str]:
    """What stands beside the results, by file name. Figures of single samples are in the results alone."""
    pictures = plots.pictures(report)
    page = _page(report, folder.name, pictures, has_notes=(folder / NOTES).exists())
    return {PAGE: page, **pictures}


def excerpt(report: Report, path: str) -> str:
    """What the README shows of a run whose folder has that path: its warm rows at the greatest depth, beside the peer as it
    comes, and its plots.
    """
    verdicts = judged(report)
    depth = max((verdict.row.depth for verdict in verdicts), default=0)
    rows = [verdict for verdict in verdicts if verdict.row.depth == depth and verdict.row.warm]
    [ours, *_] = [*report.role("ours"), ""]
    [stock, *_] = [*report.role("peer"), ""]
    heads = ["turn", ours, "of the floor", f"{stock} as it comes", "fastest peer"]
    lines = [*_table(heads, (_short_row(verdict, ours, stock) for verdict in rows)), ""]
    lines += [f"![{_title(name)}]({path}/{name})" for name in plots.pictures(report)]
    lines += ["", f"{_where(report)}, a prefix of {depth:,} tokens. [All of it]({path}/{PAGE})."]
    return "".join(f"{line}\n" for line in lines)


def _page(report: Report, name: str, pictures: Iterable[str], *, has_notes: bool) -> str:
    verdicts = judged(report)
    lines = [
        f"# {name}",
        "",
        f"{_where(report)}, {report.began[:10]}, sessiond {_versions(report)}.",
    ]
    lines += [
        f"{told}." for told in [f"{report.model.backend} {report.model.backend_version}", *report.model.notes]
    ]
    lines += [""]
    lines += [f"What is behind these figures: [{NOTES}]({NOTES}).", ""] if has_notes else []
    lines += [f"![{_title(name)}]({name})" for name in pictures]
    lines += [
        "",
        "Milliseconds to the first token, or for each token: median [90% interval], or two samples.",
        "",
    ]
    sides = [side.name for side in report.sides]
    lines += _table(
        ["depth", "turn", *sides, "of the floor", "fastest peer, of ours", ""],
        ([f"{verdict.row.depth:,}", verdict.row.label, *_cells(verdict, sides)] for verdict in verdicts),
    )
    if thinking := table.thinking(report):
        lines += ["", "From a save until all of it was done:", "", *(f"- {told}" for told in thinking)]
    lines += ["", "## What falls short, is not known, or is faster elsewhere", ""]
    lines += [f"- {sentence}" for sentence in table.sentences(report, verdicts)]
    lines += ["", "## All other tables", "", "```text"]
    lines += [line.rstrip() for line in table.beside_the_rows(report).splitlines()]
    lines += ["```", "", "## How each side was run", ""]
    lines += [f"- {_run(side)}" for side in report.sides if side.flags]
    return "".join(f"{line}\n" for line in lines)


def _versions(report: Report) -> str:
    """All that rows were made of: a run may have gone on with another one."""
    found = dict.fromkeys(row.version or report.version for row in report.rows)
    return ", then ".join(found or [report.version])


def _run(side: SideFacts) -> str:
    return f"{side.name}{f' ({side.version})' if side.version else ''}: `{' '.join(side.flags)}`"


def _cells(verdict: Verdict, sides: Sequence[str]) -> list[str]:
    figures = [table.milliseconds(verdict.sides.get(side)) for side in sides]
    return [*figures, table.times(verdict.to_floor), table.times(verdict.to_peer), table.mark(verdict)]


def _short_row(verdict: Verdict, ours: str, stock: str) -> list[str]:
    best = table.milliseconds(verdict.sides.get(verdict.best_peer))
    return [
        verdict.row.label,
        table.milliseconds(verdict.sides.get(ours)),
        table.times(verdict.to_floor),
        table.milliseconds(verdict.sides.get(stock)),
        f"{best} ({verdict.best_peer})" if verdict.best_peer else best,
    ]


def _where(report: Report) -> str:
    machine = report.machine
    return f"{report.model.name} on {machine.cores} cores ({machine.cpu})"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Markdown. A bar within a cell would end it."""
    listed = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in listed]


def _title(picture: str) -> str:
    return picture.removesuffix(".svg").replace("-", " ")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""
    except UnicodeDecodeError as error:
        raise NoResults(f"{path.name} is no text: {error}") from error
