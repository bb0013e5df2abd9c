"""What happened in the background of all sessions since the daemon began, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from sessiond.daemon.histogram import SLOW_S, Histogram
from sessiond.daemon.sessions.events import KeepHotRan, What


@dataclass(slots=True)
class Tally:
    """Plain counts. In the daemon's event loop."""

    engine_starts: int = 0
    """Engines that stood."""
    engine_restarts: int = 0
    """Of these, those whose model's engine had died before."""
    engine_deaths: int = 0
    """Engines that died after they had stood."""
    keep_hot_runs: Counter[str] = field(default_factory=Counter[str])
    """By how they ended: "finished" or "superseded"."""
    keep_hot_tokens: Counter[str] = field(default_factory=Counter[str])
    """What these runs computed, by the same."""
    keep_hot_lag: Histogram = field(default_factory=lambda: Histogram(SLOW_S))
    """From a save to the end of the run that answered it."""
    _dead: set[str] = field(default_factory=set[str])
    """Models whose engine died, and has not started again."""

    def engine_stands(self, model: str) -> None:
        """An engine was loaded."""
        self.engine_starts += 1
        self.engine_restarts += model in self._dead
        self._dead.discard(model)

    def engine_died(self, model: str) -> None:
        """An engine that stood is no more."""
        self.engine_deaths += 1
        self._dead.add(model)

    def heard(self, what: What) -> None:
        """Something happened in a workspace: once, however many sessions hear of it."""
        if not isinstance(what, KeepHotRan) or what.phase == "started":
            return
        self.keep_hot_runs[what.phase] += 1
        self.keep_hot_tokens[what.phase] += what.prefilled_tokens
        if what.phase == "finished":
            self.keep_hot_lag.add(what.lag_ms / 1e3)
