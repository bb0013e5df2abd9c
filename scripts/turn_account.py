#!/usr/bin/env python3
"""Where each millisecond of a warm turn goes, from the client's call to the first token.

    .venv/bin/python scripts/turn_account.py [--depth 4000] [--suffix 16] [--repeats 40] [--model …]

The prefix is a workspace of that many tokens, read anew at every turn; nothing of it changes. Each question is another
one, of so many tokens; 0 asks the same one again. In turn with it the floor computes the same tokens: a bare loop over
llama.cpp. The stages are told apart by the timings that the daemon gives.

Prints one JSON object with the medians, and a table on standard error. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmark.floor import Floor
from benchmark.load import OtherLoad
from benchmark.ours import Ours
from benchmark.sides import SETTLE_S, Work
from benchmark.texts import Texts
from benchmark.turns import ROOM, Turn
from benchmark.versions import Versions

ANSWER = 2
"""Tokens of an answer: the first is what is waited for."""
WARM_UP = 3
"""Turns that do not count."""

STAGES = {
    "there": "from the client's call to the daemon's clock, and from the first token's departure back",
    "workspace": "the files are looked through, and prefix and question put together",
    "way": "the engine looks how much of the prefix and the question stands, and computes the rest",
    "token": "a question that stands: its last token again; the first token is chosen; the job comes there and the token back",
}


def main() -> int:
    """Measure and print."""
    asked = _arguments()
    # Ended in order, so that the daemon does not outlive us.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="sd-", ignore_cleanup_errors=True) as name:
        ours, floor = Ours(Path(name), asked.model, 60.0), Floor()
        try:
            rows, load = _measured(ours, floor, asked)
        finally:
            ours.close()
            floor.close()
    medians = {name: round(statistics.median(row[name] for row in rows), 2) for name in rows[0]}
    print(json.dumps({"asked": vars(asked), "cpu_share_of_others": round(load, 3), "ms": medians}, indent=2))
    told = {**STAGES, "turn": "all of it, seen by the client", "floor": "the same tokens, by a bare loop"}
    for name, words in told.items():
        sys.stderr.write(f"{medians[name]:8.2f} ms  {name:<10} {words}\n")
    return 0


def _measured(ours: Ours, floor: Floor, asked: argparse.Namespace) -> tuple[list[dict[str, float]], float]:
    """Milliseconds of each stage, turn by turn, and what others took of the CPU."""
    versions = Versions(Texts(ours.client), lambda text: list(ours.client.tokenize(text).token_ids))
    version = versions.fresh(asked.depth)
    work = Work("account", len(version.ids) + ROOM, 1)
    ours.begin(work)
    ours.save(version)
    same = versions.question(max(1, asked.suffix), version)
    ours.turn(0, version, same, ANSWER)
    floor.like(ours.runtime())
    floor.begin(work)
    floor.turn(0, version, same, ANSWER)
    load, rows = OtherLoad(), list[dict[str, float]]()
    for number in range(WARM_UP + asked.repeats):
        question = versions.question(asked.suffix, version) if asked.suffix else same
        row = dict[str, float]()
        for side in (ours, floor) if number % 2 else (floor, ours):
            time.sleep(SETTLE_S)
            if isinstance(side, Floor):
                row["floor"] = side.turn(0, version, question, ANSWER).first_token_ms
            else:
                row |= stages(side.asked(0, version, question, ANSWER))
        rows.append(row)
    return rows[WARM_UP:], load.share()


def stages(turn: Turn) -> dict[str, float]:
    """A turn in parts that add up to it."""
    whole = turn.first_token_ms
    told = turn.timings
    way = told.queue_ms + told.restore_ms + told.prefill_ms
    return {
        "there": whole - told.first_token_ms,
        "workspace": told.tokenize_ms,
        "way": way,
        "token": told.first_token_ms - told.tokenize_ms - way,
        "turn": whole,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="", help="a model's name or path; the embedded one if left out")
    for name, default, told in (
        ("depth", 4000, "tokens of the workspace"),
        ("suffix", 16, "tokens of a question; 0 asks the same one again"),
        ("repeats", 40, "turns that count"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{told} (default: {default})")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
