"""A context that counts what it computes, and fails or is aborted when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from sessiond.adapters.base import Aborted, BackendError, KvContext, Run
from sessiond.adapters.scripted.kv import ScriptedKv


class Watched:
    """Stands before a scripted context."""

    def __init__(self, context: ScriptedKv) -> None:
        self.real = context
        self.batches: list[int] = []
        """Tokens of each decode."""
        self.more_rows = context.more_rows
        self.abort_after: list[int | None] = []
        """For the decodes to come: how many tokens are computed before an abort; None for all."""
        self.fail_next: BackendError | None = None
        self.before_decode: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def as_context(self) -> KvContext:
        return cast("KvContext", self)

    def decode(self, runs: Sequence[Run]) -> None:
        self.before_decode()
        self.batches.append(sum(len(run.tokens) for run in runs))
        if self.fail_next is not None:
            failure, self.fail_next = self.fail_next, None
            raise failure
        left = self.abort_after.pop(0) if self.abort_after else None
        if left is None or left >= self.batches[-1]:
            self.real.decode(runs)
            return
        part: list[Run] = []
        for run in runs:
            taken = run.tokens[:left]
            left -= len(taken)
            if taken:
                part.append(Run(run.sequence, run.position, taken))
        if part:
            self.real.decode(part)
        raise Aborted("as the test wanted")
