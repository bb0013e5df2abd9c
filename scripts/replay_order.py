"""What the order of the files costs: the same edits over two folders, one ordered by volatility and one by path.

No question is asked and nothing is kept hot: what counts is how many tokens each order has computed again.
"""

from __future__ import annotations

from collections.abc import Iterable

from replay_desk import OPEN_SECONDS, Manner
from replay_git import CONFIG_FILE
from replay_plan import Kind, Step
from replay_records import Day, Question
from replay_scratch import Scratch
from sessiond.client import Client, Config
from sessiond.v1.context_pb2 import PrefixStatus, WorkspaceInput


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
