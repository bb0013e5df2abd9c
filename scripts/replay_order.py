#!/usr/bin/env python3
"""What the order of the files costs: the same edits over two folders, one ordered by volatility and one by path.

No question is asked and nothing is kept hot: what counts is how many tokens each order has computed again.

    .venv/bin/python scripts/replay_order.py [--repo FOLDER]

asks no daemon either: it takes orders at several commits of a history, and prints as one JSON object what the saves after
each cost under them, as shares of what they cost in the order of paths: also where an order is taken while a commit is half
written, with and without what no commit holds yet. That takes seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path

from replay_desk import OPEN_SECONDS, Manner
from replay_git import CONFIG_FILE, History, NoHistory
from replay_plan import Kind, Step
from replay_records import Day, Question
from replay_scratch import Scratch
from replay_splits import RULES, Version, ratios, while_writing
from sessiond.client import Client, Config
from sessiond.daemon.workspace import classify
from sessiond.v1.context_pb2 import PrefixStatus, WorkspaceInput

SPLITS = (0.25, 0.33, 0.42, 0.5, 0.58, 0.67, 0.75)
"""Shares of the history after which an order is taken."""
MOST_COMMITS = 1_000
HORIZONS = {"3 commits": 3, "10 commits": 10, "all commits": MOST_COMMITS}
FEW = 6
"""Commits at either end of a history that say too little."""


def two_orders(
    client: Client, scratches: tuple[Scratch, Scratch], steps: Iterable[Step], manner: Manner
) -> tuple[Day, Day]:
    """The day under volatility and under path, each in its folder."""
    sides = [
        _Side(client, scratch, order, manner)
        for scratch, order in zip(scratches, ("volatility", "path"), strict=True)
    ]
    for step in steps:
        for side in sides:
            side.work(step)
    for side in sides:
        side.session.close()
    return sides[0].day, sides[1].day


class _Side:
    """One session over one folder."""

    def __init__(self, client: Client, scratch: Scratch, order: str, manner: Manner) -> None:
        self.day = Day()
        self._scratch, self._manner = scratch, manner
        self._last = PrefixStatus()
        # It would be a file like any other, and differ.
        settings = f'order = "{order}"\nexclude = ["/{CONFIG_FILE}"]\n'
        (scratch.root / CONFIG_FILE).write_text(settings, "utf-8")
        config = Config(num_ctx=manner.num_ctx)
        self.session = client.open_session(scratch.root, config=config, timeout=OPEN_SECONDS)
        self._ensure("cold", 0)

    def work(self, step: Step) -> None:
        """Let the step happen, and bring the prefix up to date if somebody would ask."""
        self._scratch.apply(step)
        if step.asked:
            self._ensure(step.kind, step.commit)

    def _ensure(self, kind: Kind, commit: int) -> None:
        asked = WorkspaceInput(max_tokens=self._manner.max_tokens, no_keep_hot=True)
        answer = self.session.ensure_prefix(workspace=asked)
        told = Question.of((kind, commit), answer.timings.total_ms, answer.status, self._last)
        self.day.questions.append(told)
        self._last = answer.status


def main() -> int:
    """Print what each rule costs. 0: the daemon's rule beats the order of paths at each split, 1: not, 2: no history."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repo", type=Path, default=Path(__file__).resolve().parent.parent)
    try:
        versions = _versions(parser.parse_args().repo)
    except NoHistory as error:
        print(f"replay_order: {error}", file=sys.stderr)
        return 2
    indices = sorted({int(len(versions) * share) for share in SPLITS} - {0, len(versions) - 1})
    found = {index: ratios(versions, index) for index in indices}
    table = {name: {str(index): round(found[index][name], 3) for index in indices} for name in RULES}
    told = {"commits": len(versions), "cost_of_path_order": table, "half_written": _half_written(versions)}
    print(json.dumps(told, indent=2))
    return 0 if all(each["daemon"] < each["path"] for each in found.values()) else 1


def _half_written(versions: list[Version]) -> dict[str, dict[str, float]]:
    """Means over all commits that are not the first or last few, by how many commits an order is judged by."""
    found: dict[str, dict[str, float]] = {}
    for name, horizon in HORIZONS.items():
        pairs = [while_writing(versions, at, horizon) for at in range(FEW, len(versions) - FEW)]
        if pairs:
            found[name] = {
                "commits_alone": round(statistics.mean(pair[0] for pair in pairs), 3),
                "daemon": round(statistics.mean(pair[1] for pair in pairs), 3),
                "cheaper": sum(with_it < without for without, with_it in pairs),
                "dearer": sum(with_it > without for without, with_it in pairs),
            }
    return found


def _versions(repo: Path) -> list[Version]:
    """What a prompt could hold at each commit of a history, the oldest first. Raises NoHistory."""
    with contextlib.closing(History(repo)) as history:
        commits = history.first_parents(MOST_COMMITS)[::-1]
        if len(commits) < 4:
            raise NoHistory("the history is too short to be split")
        return [_for_prompts(history.files(commit)) for commit in commits]


def _for_prompts(files: Version) -> Version:
    return {
        path: content
        for path, content in files.items()
        if classify.by_name(path) is None and isinstance(classify.by_content(path, content), str)
    }


if __name__ == "__main__":
    sys.exit(main())
