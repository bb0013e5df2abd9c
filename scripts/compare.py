#!/usr/bin/env python3
"""Many sessions over one tree, beside llama-server and a bare loop, in one run.

    .venv/bin/python scripts/compare.py [--only eight,switch] [--prefix 4000] [--suffix 16] [--sessions 8] …

- eight: 8 sessions over one prefix, different suffixes, all asking at once while it is warm. Tokens computed: at most
  1.02 of prefix and suffixes; time until all have their first token: at most 1/15 of llama-server's.
- switch, undo: to and fro between two prefixes that part in the middle. From the third switch on nothing but the
  suffix is computed, and the worst first token is under 1.2 times that of a plain turn.
- streams: 8 streams decode together. At least 0.9 of the speed of a bare batch loop.
- exact: in deterministic mode each of them says what it says alone.
- neighbour: decode speed beside an idle workspace, at least 0.95 of what it is without it.

llama-server is the one that scripts/peer builds from the same source, with the flags that are best for this, with and
without flash attention; `--no-peer` leaves it out. All sides take turns on the same tokens, medians are compared, and
the rest sleeps meanwhile. Prints one JSON object, and a table on standard error; status 1 if a target was missed. Run
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
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import build_peer
from benchmark.load import OtherLoad
from benchmark.took import NotMeasured
from benchmark.unix_http import ServerError
from compare_bench import VARIANTS, Bench, Sizes
from compare_eight import eight
from compare_exact import exact
from compare_neighbour import neighbour
from compare_streams import streams
from compare_switch import switch, undo
from compare_verdict import Outcome, missed, rounded, table
from demo_daemon import last_words, own_daemon
from sessiond.client import SessiondError

SCENARIOS: dict[str, Callable[[Bench], Outcome]] = {
    "eight": eight,
    "streams": streams,  # right after eight, whose prefix it can go on with
    "switch": switch,
    "undo": undo,
    "exact": exact,
    "neighbour": neighbour,
}

NOT_YET = {"hot": "what a prefill in the background costs a turn: see scripts/keep_hot.py"}
"""What cannot be measured from a client yet."""


def main() -> int:
    """Start what is needed, run the scenarios, judge. 0: all targets were met, 1: not all, 2: it could not be run."""
    asked, sizes = _arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    with tempfile.TemporaryDirectory(prefix="sd-", ignore_cleanup_errors=True) as name:
        try:
            outcomes = _run(asked, sizes, Path(name))
        except build_peer.FAULTS as error:
            _say(f"there is no llama-server to compare with: {error}")
            return 2
        except (SessiondError, TimeoutError) as error:
            _say(f"{error}\nThe end of the daemon's log:\n{last_words(Path(name))}")
            return 2
    print(json.dumps(_report(sizes, outcomes), indent=2))
    sys.stderr.write(table(outcomes))
    for sentence in (misses := missed(outcomes)):
        _say(sentence)
    return 1 if misses else 0


def _run(asked: argparse.Namespace, sizes: Sizes, folder: Path) -> dict[str, Outcome]:
    peer = None if asked.no_peer else asked.peer or build_peer.peer()
    outcomes: dict[str, Outcome] = {}
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(own_daemon(folder, asked.model))
        bench = Bench(client, sizes, folder, peer, asked.flash, stack)
        for scenario in asked.only:
            begun, load = time.monotonic(), OtherLoad()
            try:
                outcomes[scenario] = SCENARIOS[scenario](bench)
            except (SessiondError, ServerError, NotMeasured, RuntimeError, TimeoutError) as error:
                outcomes[scenario] = Outcome(fault=f"{type(error).__name__}: {error}")
            others = load.share()
            outcomes[scenario].figures["cpu_share_of_others"] = others
            _say(
                f"{scenario} took {time.monotonic() - begun:.0f} s; other programs had {others:.0%} of the CPU"
            )
            # At once, as the rest may take long, and may be interrupted.
            sys.stderr.write(table({scenario: outcomes[scenario]}))
    return outcomes


def _report(sizes: Sizes, outcomes: dict[str, Outcome]) -> dict[str, object]:
    return {
        "sizes": {name: getattr(sizes, name) for name in Sizes.__slots__},
        "scenarios": {name: rounded(outcome.figures) for name, outcome in outcomes.items()},
        "targets": [
            {"scenario": name, **target.as_dict()}
            for name, outcome in outcomes.items()
            for target in outcome.targets
        ],
        "faults": {name: outcome.fault for name, outcome in outcomes.items() if outcome.fault},
        "not_measured": [
            {"scenario": name, "why": told}
            for name, outcome in outcomes.items()
            for told in outcome.not_measured
        ]
        + [{"scenario": name, "why": why} for name, why in NOT_YET.items()],
    }


def _arguments() -> tuple[argparse.Namespace, Sizes]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", type=_chosen, default=list(SCENARIOS), help="scenarios, with commas between"
    )
    parser.add_argument("--model", default="", help="a model's name or path; the embedded one if left out")
    parser.add_argument("--peer", type=Path, help="the llama-server; the one of scripts/peer if left out")
    parser.add_argument("--no-peer", action="store_true", help="without llama-server")
    parser.add_argument(
        "--flash", choices=VARIANTS, default="both", help="flash attention of llama-server (default: both)"
    )
    numbers = {
        "prefix": (4000, "tokens of the warm prefix"),
        "suffix": (16, "tokens of each suffix"),
        "answer": (64, "tokens of each answer whose speed is measured"),
        "sessions": (8, "sessions, slots and streams"),
        "rounds": (
            3,
            "rounds with a new prefix (eight); in the last one llama-server is tried in all variants",
        ),
        "repeats": (5, "repeats over a warm prefix (streams, neighbour)"),
        "switches": (11, "how often the prefix changes (switch, undo)"),
        "alone": (1000, "tokens of the prefix where texts are compared (exact)"),
        "neighbour": (8000, "tokens of the idle workspace (neighbour)"),
    }
    for name, (default, told) in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{told} (default: {default})")
    asked = parser.parse_args()
    try:
        return asked, Sizes(**{name: getattr(asked, name) for name in Sizes.__slots__})
    except ValueError as error:
        parser.error(str(error))


def _chosen(listed: str) -> list[str]:
    names = listed.split(",")
    if unknown := [name for name in names if name not in SCENARIOS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(SCENARIOS)}")
    return names


def _leave(number: int, _frame: object) -> NoReturn:
    """End in order, so that every process that was started is stopped."""
    sys.exit(128 + number)


def _say(what: str) -> None:
    print(f"compare: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
