"""The short form of `scripts/kills.py`: kills of the daemon, of its engine and of both, and nothing is lost or wrong."""

from __future__ import annotations

from pathlib import Path

from kills import MODEL, Kills, judged

KILLS = 6


def test_what_is_killed_under_load_comes_back_whole(folder: Path) -> None:
    seen = Kills(folder, MODEL, KILLS, seed=5).run()
    outcome = judged(seen, KILLS)
    assert [target for target in outcome.targets if not target.met] == [], outcome.figures
    assert dict(seen.targets) == {"daemon": 2, "engine": 2, "both": 2}
    assert seen.looked and seen.found.right > 20 and seen.expected > 1000
