"""What the samples say: figures of each row, ratios to the floor and to the best peer, and where a claim is not met. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmark.results import Report, Row
from benchmark.statistics import Estimate, estimate, paired_ratios

NOT_MEASURED = "not measured"
FAR_BEHIND = 2.0
"""Times the time of another peer."""
HOPELESS_AFTER = 2
"""Repeats of one scenario, after which a peer that is far behind another one in all of them is left out of the rest of it:
what it would go on to show is known, and its repeats would be most of the run's time.
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A row, judged. What is None was not measured."""

    row: Row
    sides: dict[str, Estimate]
    """The row's figure, in milliseconds, by side."""
    to_floor: Estimate | None = None
    """Ours, of the floor's."""
    best_peer: str = ""
    to_peer: Estimate | None = None
    """The best peer's, of ours: how many times as fast ours is."""
    shortfalls: list[str] = field(default_factory=list[str])
    """Claims that are not met, as sentences."""
    unknown: list[str] = field(default_factory=list[str])
    """Claims of which this run says nothing, and why."""
    faster: list[str] = field(default_factory=list[str])
    """Peers that were faster than ours, with by how much."""


def judged(report: Report) -> list[Verdict]:
    """All rows."""
    [ours, *_] = [*report.role("ours"), ""]
    [floor, *_] = [*report.role("floor"), ""]
    return [_judged(row, ours, floor, report.role("peer")) for row in report.rows]


def _judged(row: Row, ours: str, floor: str, peers: list[str]) -> Verdict:
    sides = {side: found for side in row.samples if (found := figure(row, side))}
    best = min((peer for peer in peers if peer in sides), key=lambda peer: sides[peer].median, default="")
    verdict = Verdict(
        row,
        sides,
        to_floor=ratio(row, ours, floor),
        best_peer=best,
        to_peer=ratio(row, best, ours) if best else None,
    )
    _hold_to_floor(verdict, ours, floor)
    _hold_to_peer(verdict)
    for peer in peers:
        found = ratio(row, ours, peer)
        if found and not found.too_few and found.low > 1:
            verdict.faster.append(f"{peer} was faster: ours took {_told(found)} times as long")
    return verdict


def beaten(report: Report, peers: Sequence[str]) -> set[str]:
    """Those of these peers that one can do without: in every row one of the others is as fast as the fastest, as far as it
    can be told. The first one stays, which is the program as it comes, and so does who has no figures.
    """
    fastest = [found for verdict in judged(report) if (found := _fastest(verdict, peers))]
    stay = set(peers[:1])
    while open_rows := [each for each in fastest if not each & stay]:
        # The fewest: who is among the fastest in most of the rows that nobody stands for yet.
        stay.add(max(peers, key=lambda peer: sum(peer in each for each in open_rows)))
    return {side for row in report.rows for side in row.samples if figure(row, side)} & set(peers) - stay


def _fastest(verdict: Verdict, peers: Sequence[str]) -> set[str]:
    """The peer with the least median, and all whose interval reaches down to it."""
    found = {peer: verdict.sides[peer] for peer in peers if peer in verdict.sides}
    least = min((each.median for each in found.values()), default=0.0)
    return {peer for peer, each in found.items() if each.low <= least}


def hopeless(rows: Sequence[Row], peers: Sequence[str]) -> set[str]:
    """The peers that took more than FAR_BEHIND times as long as another one every time, in every one of these rows."""
    return {peer for peer in peers if rows and all(_far_behind(row, peer, peers) for row in rows)}


def _far_behind(row: Row, peer: str, peers: Sequence[str]) -> bool:
    others = [values for other in peers if other != peer and (values := row.values(other))]
    best = [
        min((value for value in each if value is not None), default=None)
        for each in zip(*others, strict=False)
    ]
    ratios = paired_ratios(row.values(peer), best)
    return bool(ratios) and min(ratios) > FAR_BEHIND


def figure(row: Row, side: str) -> Estimate | None:
    """The row's figure of one side."""
    values = [value for value in row.values(side) if value is not None]
    return estimate(values) if values else None


def background(row: Row, side: str) -> Estimate | None:
    """How long a side's background took, from a save until it was done, where somebody waited for that."""
    took = [each for each in row.samples.get(side, []) if each is not None]
    values = [each.ready_ms for each in took if each.ready_ms is not None]
    return estimate(values) if values else None


def ratio(row: Row, one: str, other: str, less_ms: float = 0.0) -> Estimate | None:
    """Of pairs. `less_ms` is taken off the first of each."""
    values = [None if value is None else max(0.0, value - less_ms) for value in row.values(one)]
    found = paired_ratios(values, row.values(other))
    return estimate(found) if found else None


def _hold_to_floor(verdict: Verdict, ours: str, floor: str) -> None:
    limit = verdict.row.limit
    if not limit.floor_ratio:
        return
    found = ratio(verdict.row, ours, floor, limit.floor_extra_ms)
    claim = f"at most {limit.floor_ratio:g} times the floor plus {limit.floor_extra_ms:g} ms"
    if found is None:
        verdict.unknown.append(f"{claim}: {NOT_MEASURED}")
    elif why := _undecided(found, straddles=found.low <= limit.floor_ratio < found.high):
        verdict.unknown.append(f"{claim}: {why}")
    elif found.median > limit.floor_ratio:
        verdict.shortfalls.append(f"it is {_told(found)} times the floor, less that extra, not {claim}")


def _hold_to_peer(verdict: Verdict) -> None:
    limit, found = verdict.row.limit, verdict.to_peer
    if not limit.peer_ratio:
        return
    claim = f"at least {limit.peer_ratio:g} times as fast as the best peer"
    if found is None:
        verdict.unknown.append(f"{claim}: {NOT_MEASURED}")
    elif why := _undecided(found, straddles=found.low < limit.peer_ratio <= found.high):
        verdict.unknown.append(f"{claim}: {why}")
    elif found.median < limit.peer_ratio:
        # At a limit of one, what cannot be told from it is not slower.
        if limit.peer_ratio == 1 and found.high >= 1:
            return
        told = f"it is {_told(found)} times as fast as {verdict.best_peer}, not {limit.peer_ratio:g}"
        verdict.shortfalls.append(told)


def _undecided(found: Estimate, *, straddles: bool) -> str:
    """Why a claim is neither met nor missed; empty if it is one of them. An interval that lies wholly on one side of the
    limit decides, however wide it is: once the extra is off, so little may be left that it is always wide for its median.
    """
    return found.fault if found.too_few or straddles else ""


def _told(found: Estimate) -> str:
    """A ratio in a sentence. Of one that is too wide the median would say more than is known."""
    return f"{found.low:.2f} to {found.high:.2f}" if found.too_wide else f"{found.median:.2f}"


def settled(row: Row, ours: str, others: Sequence[str]) -> bool:
    """Whether more repeats would add little to what the row says: its ratios if there are any, else its figure."""
    ratios = [each for other in others if (each := ratio(row, ours, other))]
    alone = figure(row, ours)
    return all(each.narrow for each in ratios) if ratios else alone is not None and alone.narrow
