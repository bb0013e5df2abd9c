"""Whether the warm path has lost from one run to another: by ratios to the floor, never by times. For CI.

A row's loss is its median ratio to the floor now, of that before. Two things are a loss: all warm rows together by more
than `TOGETHER`, and a single row that is surely beyond `ALONE`. Both lie between noise and the smallest loss that has to be
found, a fifth. What others do on the machine hits both sides of a pair alike, and medians do not care for outliers.

A row that only the old run has may hide a loss, and is told. Runs of two models are not compared.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
    missing: list[str] = field(default_factory=list[str])
    """Rows of the old run of which the new one has not enough pairs, or none: of these nothing can be said."""

    @property
    def status(self) -> int:
        """0 no loss, 1 a loss, 2 nothing can be said, of all or of some."""
        if self.losses:
            return 1
        return 2 if self.unclear or self.missing else 0

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
    keys, missing = sorted(old.keys() & new.keys()), sorted(old.keys() - new.keys())
    if not keys:
        return Finding(None, {}, missing)
    rows = {key: _loss(old, new, [key], ALONE_CONFIDENCE) for key in keys}
    return Finding(_loss(old, new, keys, 0.90), rows, missing)


def told(old: Report, news: Sequence[Report], stream: TextIO) -> int:
    """Compare, say what was found, and return the status: 0 no loss, 1 a loss, 2 nothing can be said."""
    statuses: list[int] = []
    for index, new in enumerate(news, 1):
        name = f"run {index} of {len(news)}"
        if why := _incomparable(old, new):
            stream.write(f"{name}: nothing can be said: {why}\n")
            statuses.append(2)
            continue
        finding = compared(warm_ratios(old), warm_ratios(new))
        stream.writelines(f"{name}: {sentence}\n" for sentence in _sentences(finding))
        statuses.append(finding.status)
    return 1 if 1 in statuses else max(statuses, default=2)


def _incomparable(old: Report, new: Report) -> str:
    """Why no ratio of one run says anything about the other; empty if they do. Another machine is no reason."""
    models = old.model, new.model
    if models[0].digest == models[1].digest:
        return ""
    told = [f"{model.name} ({model.digest[:12]})" for model in models]
    return f"the models are not the same: {' and '.join(told)}"


def _sentences(finding: Finding) -> list[str]:
    """What was found, in words: losses first, then what the comparison leaves open."""
    found = [f"LOST: {sentence}" for sentence in finding.losses]
    if not found and finding.unclear:
        found.append(f"nothing can be said: {finding.unclear}")
    elif not found and finding.together:
        where = " elsewhere" * bool(finding.missing)
        found.append(f"nothing was lost{where}: {_told(finding.together)} times what it was")
    return found + [
        f"nothing can be said of {key}: this run has fewer than {LEAST_SAMPLES} pairs of it with the floor"
        for key in finding.missing
    ]


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
