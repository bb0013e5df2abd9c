"""Whether the warm path has lost from one run to another: by ratios to the floor, never by times. For CI.

A row's loss is its median ratio to the floor now, of that before. Two things are a loss: all warm rows together by more
than `TOGETHER`, and a single row that is surely beyond `ALONE`. Both lie between noise and the smallest loss that has to be
found, a fifth. What others do on the machine hits both sides of a pair alike, and medians do not care for outliers.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO

from benchmark.results import Report, Row
from benchmark.statistics import LEAST_SAMPLES, bootstrap, paired_ratios

TOGETHER = 1.10
"""Of all warm rows together: half of the loss that has to be found."""
ALONE = 1.10
"""Of one row, at the lower end of its interval."""
ALONE_CONFIDENCE = 0.98
WIDEST = 1.25
"""The upper end of the interval of all rows, of its lower one, for anything to be said."""

Ratios = dict[str, list[float]]
"""Of a run: the pairs of every warm row, by key."""


@dataclass(frozen=True, slots=True)
class Loss:
    """How many times the ratios now are what they were: 1 is no loss."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What a comparison of two runs says."""

    together: Loss | None
    """None if the runs have no warm row in common that has enough samples."""
    rows: dict[str, Loss]

    @property
    def losses(self) -> list[str]:
        """Sentences; none if nothing was lost."""
        found: list[str] = []
        if self.together and self.together.estimate > TOGETHER and self.together.low > 1:
            found.append(f"the warm path as a whole is {_told(self.together)} times what it was")
        found += [
            f"{key} is {_told(loss)} times what it was" for key, loss in self.rows.items() if loss.low > ALONE
        ]
        return found

    @property
    def unclear(self) -> str:
        """Why nothing can be said; empty if something can."""
        if self.together is None:
            return f"no warm row has {LEAST_SAMPLES} pairs with the floor in both runs"
        if self.together.high > WIDEST * self.together.low:
            return f"the runs are too noisy: {_told(self.together)}"
        return ""


def warm_ratios(report: Report) -> Ratios:
    """Of all warm rows with enough pairs. The first token counts, not the speed after it."""
    [ours, *_] = [*report.role("ours"), ""]
    [floor, *_] = [*report.role("floor"), ""]
    found = {row.key: _pairs(row, ours, floor) for row in report.rows if _is_warm(row)}
    return {key: pairs for key, pairs in found.items() if len(pairs) >= LEAST_SAMPLES}


def compared(old: Ratios, new: Ratios) -> Finding:
    """What was lost. Pure, and the same for the same samples."""
    keys = sorted(old.keys() & new.keys())
    if not keys:
        return Finding(None, {})
    rows = {key: _loss(old, new, [key], ALONE_CONFIDENCE) for key in keys}
    return Finding(_loss(old, new, keys, 0.90), rows)


def told(old: Report, news: Sequence[Report], stream: TextIO) -> int:
    """Compare, say what was found, and return the status: 0 no loss, 1 a loss, 2 nothing can be said."""
    statuses: list[int] = []
    for index, new in enumerate(news, 1):
        finding = compared(warm_ratios(old), warm_ratios(new))
        name = f"run {index} of {len(news)}"
        losses = finding.losses
        stream.writelines(f"{name}: LOST: {sentence}\n" for sentence in losses)
        if not losses and finding.unclear:
            stream.write(f"{name}: nothing can be said: {finding.unclear}\n")
        elif not losses and finding.together:
            stream.write(f"{name}: nothing was lost: {_told(finding.together)} times what it was\n")
        statuses.append(1 if losses else 2 if finding.unclear else 0)
    return 1 if 1 in statuses else max(statuses, default=2)


def _is_warm(row: Row) -> bool:
    return row.warm and row.metric == "first_token_ms"


def _pairs(row: Row, ours: str, floor: str) -> list[float]:
    return paired_ratios(row.values(ours), row.values(floor))


def _loss(old: Ratios, new: Ratios, keys: Sequence[str], confidence: float) -> Loss:
    """The geometric mean of the rows' losses, and its interval."""

    def figure(drawn: Callable[[Sequence[float]], Sequence[float]]) -> float:
        logs = [
            math.log(statistics.median(drawn(new[key])) / statistics.median(drawn(old[key]))) for key in keys
        ]
        return math.exp(statistics.fmean(logs))

    low, high = bootstrap(figure, confidence=confidence)
    return Loss(figure(lambda values: values), low, high)


def _told(loss: Loss) -> str:
    return f"{loss.estimate:.2f} [{loss.low:.2f}, {loss.high:.2f}]"
