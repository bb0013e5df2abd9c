"""What a replayed day comes to: figures by kind of event, and the targets that they are held against. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from compare_verdict import Outcome
from replay_plan import Kind
from replay_records import Day, Question, percentile

SAVE_RATIO = 1.15
"""The first token after a save, of that after no change, where there was time to think."""
WATCHED_RATIO = 1.05
"""What keep-hot may cost whoever asks at once."""
LEAST_THINK = 1.0
"""Seconds. Asked any sooner, a save may not even have been noticed: nobody claims anything then."""

SHOWN = 20
"""Of what was wrong, so many are told."""

_HEADS = tuple("DAEMON KIND TURNS ELSEWHERE EARLY P50_MS P95_MS REUSED RESTORED PREFILLED".split())
_TIERS = ("reused_tokens", "restored_tokens", "prefilled_tokens")


def kept_hot(day: Day, think: float) -> Outcome:
    """The day of a daemon that keeps its prefix hot."""
    found = Outcome(figures(day))
    name = "first token after a save, of a plain turn's: p95"
    saves = [question for question in _of(day, "save") if not question.early]
    if think >= LEAST_THINK and saves:
        found.at_most(name, _ratio(saves, _of(day, "plain"), 0.95), SAVE_RATIO)
    else:
        found.not_measured.append(f"{name} (nobody thought for long enough)")
    return found


def compared(watched: Day, unwatched: Day, think: float) -> Outcome:
    """What keep-hot costs or gains: the same questions to a daemon with it and to one without."""
    found = Outcome()
    pairs = list(zip(watched.questions, unwatched.questions, strict=False))
    for name, of_name in (
        ("after a change", [pair for pair in pairs if all(map(_is_changed, pair))]),
        ("plain turn", [pair for pair in pairs if pair[0].kind == "plain"]),
    ):
        each = [ours.first_token_ms / theirs.first_token_ms for ours, theirs in of_name]
        ours, theirs = ([pair[side] for pair in of_name] for side in (0, 1))
        for told, ratio in (
            ("median of the ratios", percentile(each, 0.5)),
            ("p95", _ratio(ours, theirs, 0.95)),
        ):
            found.figures[f"{name}, {told}"] = ratio
            if think == 0 and of_name:
                found.at_most(
                    f"first token with keep-hot, of that without: {name}, {told}", ratio, WATCHED_RATIO
                )
    if not found.targets:
        found.not_measured.append("what keep-hot costs whoever asks at once (that is --think 0)")
    return found


def exact(days: Sequence[Day]) -> Outcome:
    """Whether any prefix was another than that of a fresh session or than the files, any answer another than a cold one."""
    stale = [told for day in days for told in day.stale]
    unlike = [told for day in days for told in day.unlike]
    checked, answers = sum(day.checked for day in days), sum(day.answers_checked for day in days)
    found = Outcome({"checked": checked, "stale": stale[:SHOWN]})
    found.figures |= {"answers_checked": answers, "unlike": unlike[:SHOWN]}
    for name, number, wrong, how in (
        ("prefixes with something stale", checked, stale, "--check-exact"),
        ("answers unlike the cold one", answers, unlike, "--check-exact with --deterministic"),
    ):
        if number:
            found.at_most(name, len(wrong), 0)
        else:
            found.not_measured.append(f"{name} ({how})")
    return found


def ordered(by_volatility: Day, by_path: Day) -> Outcome:
    """What the order of the files costs, over the same edits."""
    found = Outcome({"volatility": figures(by_volatility), "path": figures(by_path)})
    counts = [_tokens(_changed(day))["prefilled_tokens"] for day in (by_volatility, by_path)]
    name = "tokens computed again under volatility, of those under path"
    if counts[1]:
        found.at_most(name, counts[0] / counts[1], 1.0)
    else:
        found.not_measured.append(f"{name} (none were)")
    return found


def figures(day: Day) -> dict[str, object]:
    """A day in numbers: times in milliseconds, counts of tokens."""
    superseded, finished = day.runs.in_phase("superseded"), day.runs.in_phase("finished")
    return {
        "cold_ms": percentile([question.first_token_ms for question in _of(day, "cold")], 0.5),
        "kinds": {kind: _kind(day, kind) for kind in get_args(Kind) if kind != "cold" and _of_any(day, kind)},
        "tokens": _tokens([question for question in day.questions if question.kind != "cold"]),
        "keep_hot": {
            "finished": {"runs": len(finished), "tokens": sum(run.prefilled_tokens for run in finished)},
            "superseded": {
                "runs": len(superseded),
                "tokens": sum(run.prefilled_tokens for run in superseded),
            },
            "unended": {"runs": len(day.runs.in_phase("started"))},
            "lag_ms": _spread(day.runs.lags_ms(day.writes)),
        },
    }


def kinds_table(days: dict[str, Day]) -> str:
    """First tokens and where the prefix came from, by kind, for a person."""
    rows: list[tuple[str, ...]] = [_HEADS]
    for name, day in days.items():
        for kind in get_args(Kind):
            if of_kind := _of_any(day, kind):
                counted = _of(day, kind)
                spread = _spread([question.first_token_ms for question in counted])
                numbers = [len(of_kind), len(of_kind) - len(counted), sum(q.early for q in counted)]
                numbers += [round(spread["p50"]), round(spread["p95"]), *_tokens(counted).values()]
                rows.append((name, kind, *map(str, numbers)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _kind(day: Day, kind: Kind) -> dict[str, object]:
    counted = _of(day, kind)
    return {
        "turns": len(counted),
        "elsewhere": len(_of_any(day, kind)) - len(counted),
        "early": sum(question.early for question in counted),
        "first_token_ms": _spread([question.first_token_ms for question in counted]),
        **_tokens(counted),
    }


def _of_any(day: Day, kind: Kind) -> list[Question]:
    return [question for question in day.questions if question.kind == kind]


def _of(day: Day, kind: Kind) -> list[Question]:
    """Those that count: an event that changed nothing in the prefix says nothing about what changes cost."""
    return [question for question in _of_any(day, kind) if question.changed or kind == "plain"]


def _changed(day: Day) -> list[Question]:
    return list(filter(_is_changed, day.questions))


def _is_changed(question: Question) -> bool:
    """Whether it came after an event, and that changed something in the prefix."""
    return question.changed and question.kind not in {"plain", "cold"}


def _tokens(questions: Sequence[Question]) -> dict[str, int]:
    return {tier: sum(getattr(question, tier) for question in questions) for tier in _TIERS}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"p50": percentile(values, 0.5), "p95": percentile(values, 0.95)}


def _ratio(ours: Sequence[Question], theirs: Sequence[Question], share: float) -> float:
    """Of the same percentile of both sides; 0 where one has none."""
    mine, other = (percentile([q.first_token_ms for q in side], share) for side in (ours, theirs))
    return mine / other if other else 0.0
