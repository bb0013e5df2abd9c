"""What a comparison found: figures, the targets they are held against, and how both are told. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast


@dataclass(frozen=True, slots=True)
class Target:
    """A figure and its limit. Figures are ratios or counts of one run: a time alone says only what machine it was."""

    name: str
    value: float
    sense: Literal["at most", "at least"]
    limit: float

    @property
    def met(self) -> bool:
        """Whether the figure keeps to its limit."""
        return self.value <= self.limit if self.sense == "at most" else self.value >= self.limit

    def as_dict(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "name": self.name,
            "value": self.value,
            "sense": self.sense,
            "limit": self.limit,
            "met": self.met,
        }


@dataclass(slots=True)
class Outcome:
    """What one scenario found."""

    figures: dict[str, object] = field(default_factory=dict[str, object])
    targets: list[Target] = field(default_factory=list[Target])
    not_measured: list[str] = field(default_factory=list[str])
    """Targets that this run says nothing about."""
    fault: str = ""
    """Why the scenario did not come to its end, if so."""

    def at_most(self, name: str, value: float, limit: float) -> None:
        """Hold a figure against its upper limit."""
        self.targets.append(Target(name, value, "at most", limit))

    def at_least(self, name: str, value: float, limit: float) -> None:
        """Hold a figure against its lower limit."""
        self.targets.append(Target(name, value, "at least", limit))


def missed(outcomes: Mapping[str, Outcome]) -> list[str]:
    """The scenarios that did not end and the targets that were missed, as sentences."""
    faults = [f"{scenario}: {outcome.fault}" for scenario, outcome in outcomes.items() if outcome.fault]
    return faults + [
        f"{scenario}: {target.name} is {target.value:.3f}, which should be {target.sense} {target.limit:g}"
        for scenario, outcome in outcomes.items()
        for target in outcome.targets
        if not target.met
    ]


def table(outcomes: Mapping[str, Outcome]) -> str:
    """All targets, one a line, for a person."""
    rows = [("SCENARIO", "TARGET", "MEASURED", "LIMIT", "")]
    for scenario, outcome in outcomes.items():
        for target in outcome.targets:
            verdict = "met" if target.met else "MISSED"
            limit = f"{target.sense} {target.limit:g}"
            rows.append((scenario, target.name, f"{target.value:.3f}", limit, verdict))
        if outcome.fault:
            rows.append((scenario, "all of them", "-", "", "FAILED"))
        rows += [(scenario, told, "-", "", "not measured") for told in outcome.not_measured]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def rounded(figures: object) -> object:
    """Figures of any shape, with numbers short enough to read."""
    if isinstance(figures, float):
        return round(figures, 3)
    if isinstance(figures, Mapping):
        return {name: rounded(value) for name, value in cast("Mapping[str, object]", figures).items()}
    if isinstance(figures, list):
        return [rounded(value) for value in cast("list[object]", figures)]
    return figures


def median(values: Sequence[float]) -> float:
    """The median; 0 of nothing."""
    return statistics.median(values) if values else 0.0
