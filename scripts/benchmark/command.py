"""The command line of `scripts/bench`.

scripts/bench [--quick] [--classes cold,suffix,…] [--depths 1000,4000] [--model NAME|PATH] [--no-peer] [--out FOLDER] …
scripts/bench check OLD.json NEW.json [NEW.json …]     has the warm path lost, from one run to others?
scripts/bench show RESULTS.json [--out FOLDER]         the table and the plots of a run that was made before
scripts/bench publish RESULTS.json NAME               its folder under docs/benchmarks, and the README's figures
scripts/bench publish --check                         are the committed pages what their results make?
scripts/bench synthetic SHAPE FILE [--type q4_0]       a model of that shape with random weights
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn, cast

import build_peer
from benchmark import classes, plots, publish, regression, results, synthetic
from benchmark.measure import EXTRAS, Asked, measured
from benchmark.progress import Progress
from benchmark.results import NoResults, Report
from benchmark.table import tables
from benchmark.texts import SOURCE
from demo_daemon import last_words
from sessiond.client import SessiondError

QUICK_MINUTES, FULL_MINUTES = 4.0, 180.0
"""Of measuring. Starting and stopping everything takes some seconds more for each depth."""
QUICK_DEPTHS = (512,)
QUICK_CLIENTS, FULL_CLIENTS = 3, 8
ANSWER = 48
LEAST_DEPTH = 128
"""Tokens. A prefix that is shorter is little but the frame of a file."""
QUICK_EXTRAS = ("caching",)
HOME = SOURCE / "build" / "bench"
"""Where results go if nobody says otherwise: no part of the repository."""


def main(arguments: Sequence[str] | None = None) -> int:
    """0: it was done, and what was checked holds. 1: a loss was found. 2: it could not be done, or says nothing."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    others: dict[str, Callable[[list[str]], int]] = {
        "check": _check,
        "show": _show,
        "publish": _publish_run,
        "synthetic": synthetic.main,
    }
    try:
        if given and given[0] in others:
            return others[given[0]](given[1:])
        return _measure(given)
    except NoResults as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT  # what was found so far is kept


def _measure(given: list[str]) -> int:
    asked, out = _asked(given)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    out.mkdir(parents=True, exist_ok=True)
    progress = Progress(sys.stderr)
    with tempfile.TemporaryDirectory(prefix="sd-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        try:
            report = measured(asked, folder, progress, partial(_keep, asked, out))
        except (SessiondError, TimeoutError, RuntimeError) as error:
            progress.say(f"{error}\nThe end of the daemon's log:\n{last_words(folder)}")
            return 2
    progress.clear()
    _publish(report, out)
    sys.stdout.write(tables(report, _width(), color=sys.stdout.isatty()))
    _say(f"all of it lies in {out}")
    return 0


def _keep(asked: Asked, out: Path, report: Report) -> None:
    """Write what is there so far."""
    report.asked = {
        name: _told(getattr(asked, name))
        for name in Asked.__slots__
        if name not in {"peer", "repo", "model", "former"}
    }
    results.written(out / "results.json", results.encoded(report))


def _told(value: object) -> str:
    return ",".join(map(str, cast("list[object]", value))) if isinstance(value, list) else str(value)


def _publish(report: Report, out: Path) -> None:
    """All files of a run."""
    results.written(out / "results.json", results.encoded(report))
    results.written(out / "results.csv", results.as_csv(report).encode())
    for name, picture in plots.pictures(report).items():
        results.written(out / name, picture.encode())


def _check(given: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="bench check", description="Has the warm path lost, from one run to others?"
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path, nargs="+")
    asked = parser.parse_args(given)
    return regression.told(results.read(asked.old), [results.read(path) for path in asked.new], sys.stdout)


def _show(given: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench show", description="The table and the plots of a run.")
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, help="where CSV and plots go; nowhere if left out")
    asked = parser.parse_args(given)
    report = results.read(asked.results)
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        _publish(report, asked.out)
    sys.stdout.write(tables(report, _width(), color=sys.stdout.isatty()))
    return 0


def _publish_run(given: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench publish", description="Commit a run's results as pages.")
    parser.add_argument("results", type=Path, nargs="?")
    parser.add_argument("name", nargs="?", help="of its folder under docs/benchmarks")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page is stale")
    asked = parser.parse_args(given)
    if asked.check:
        for page in (stale := publish.stale()):
            _say(f"{page} is not what its results make: scripts/bench publish")
        return 1 if stale else 0
    if not asked.name or not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", asked.name):
        parser.error("RESULTS.json and a NAME of small letters, digits, dots and dashes are needed")
    _say(f"written: {publish.publish(results.read(asked.results), asked.name)}")
    readme = publish.README.read_text("utf-8")
    results.written(publish.README, publish.excerpted(readme).encode())
    return 0


def _asked(given: list[str]) -> tuple[Asked, Path]:
    parser = _parser()
    asked = parser.parse_args(given)
    quick: bool = asked.quick
    chosen = asked.classes or ([*classes.QUICK, *QUICK_EXTRAS] if quick else [*classes.CLASSES, *EXTRAS])
    if quick and (slow := [name for name in chosen if name not in {*classes.QUICK, *EXTRAS}]):
        parser.error(f"{', '.join(slow)} takes longer than a quick run has")
    minutes = asked.minutes or (QUICK_MINUTES if quick else FULL_MINUTES)
    try:
        peer = None if asked.no_peer else asked.peer or build_peer.peer()
    except build_peer.FAULTS as error:
        parser.error(f"there is no llama-server to compare with (--no-peer leaves it out): {error}")
    out: Path = asked.out or HOME / ("quick" if quick else "full")
    return Asked(
        quick=quick,
        classes=chosen,
        depths=asked.depths or list(QUICK_DEPTHS if quick else classes.DEPTHS),
        suffixes=asked.suffixes or list(classes.SUFFIXES),
        model=asked.model,
        peer=peer,
        python_peer=not quick if asked.python_peer is None else asked.python_peer,
        seconds=minutes * 60,
        repeats=asked.repeats,
        think_seconds=asked.think,
        clients=asked.clients or (QUICK_CLIENTS if quick else FULL_CLIENTS),
        answer=ANSWER,
        repo=asked.repo,
        commits=asked.commits,
        planted=asked.plant / 100,
        measure=not quick if asked.measure is None else asked.measure,
        former=results.read(out / "results.json") if asked.resume else None,
    ), out


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [*classes.CLASSES, *EXTRAS]
    parser.add_argument("--quick", action="store_true", help="a few rows, in under five minutes on two cores")
    parser.add_argument("--classes", type=partial(_chosen, known), help=f"of {', '.join(known)}")
    parser.add_argument("--depths", type=_depths, help="tokens of the prefix, with commas between")
    parser.add_argument("--suffixes", type=_suffixes, help="tokens of the suffixes that are tried; as above")
    parser.add_argument("--model", default="", help="a model's name or path; the embedded one if left out")
    parser.add_argument("--no-peer", action="store_true", help="without the peers")
    parser.add_argument("--peer", type=Path, help="the llama-server; the one of scripts/peer if left out")
    parser.add_argument(
        "--python-peer",
        action=argparse.BooleanOptionalAction,
        help="the server example of llama-cpp-python (default: in a full run)",
    )
    parser.add_argument(
        "--measure",
        action=argparse.BooleanOptionalAction,
        help="let the daemon time the model first, to run it as fast as it can (default: in a full run)",
    )
    parser.add_argument("--out", type=Path, help="the folder for the results (default: build/bench/…)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run that lies there: measure what it had no time for",
    )
    parser.add_argument(
        "--minutes", type=_positive, help=f"of measuring ({QUICK_MINUTES:g}; {FULL_MINUTES:g})"
    )
    parser.add_argument(
        "--repeats",
        type=_repeats,
        default=results.MOST_SAMPLES,
        help="of each row at most; fewer if it says enough",
    )
    parser.add_argument("--think", type=_positive, default=120.0, help="seconds that thinking takes at most")
    parser.add_argument("--clients", type=int, choices=range(2, 17), metavar="2..16", help="who ask at once")
    parser.add_argument("--repo", type=Path, default=SOURCE, help="the git repository of the day of edits")
    parser.add_argument("--commits", type=int, default=8, help="of its history, the newest ones")
    parser.add_argument(
        "--plant", type=float, default=0.0, help="slow our turns by so many percent, to see `check` find it"
    )
    return parser


def _chosen(known: list[str], listed: str) -> list[str]:
    names = listed.split(",")
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
    return names


def _depths(listed: str) -> list[int]:
    return _numbers(listed, "a depth", LEAST_DEPTH)


def _suffixes(listed: str) -> list[int]:
    return _numbers(listed, "a suffix", 1)


def _repeats(text: str) -> int:
    number = int(text)
    if not 0 < number <= results.MOST_SAMPLES:
        raise argparse.ArgumentTypeError(f"from 1 to {results.MOST_SAMPLES}")
    return number


def _numbers(listed: str, what: str, least: int) -> list[int]:
    try:
        found = sorted({int(number) for number in listed.split(",")})
    except ValueError as error:
        raise argparse.ArgumentTypeError("numbers with commas between are needed") from error
    if found[0] < least:
        raise argparse.ArgumentTypeError(f"{what} is at least {least}")
    return found


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError("a number above 0 is needed")
    return number


def _width() -> int | None:
    """None where it is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _leave(number: int, _frame: object) -> NoReturn:
    """End in order, so that every process that was started is stopped."""
    sys.exit(128 + number)


def _say(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr, flush=True)
