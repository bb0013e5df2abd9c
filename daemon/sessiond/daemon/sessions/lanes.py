"""How many branches beside each other are worth their cells."""

from __future__ import annotations

from sessiond.daemon.sessions.home import Home

AT_ONCE = 8
"""Jobs of one call that run at once in one arena: a step of eight answers takes three times as long as one (SmolLM2 at depth
2,048, two cores), so that whoever asks meanwhile still reads fluently.
"""


def lanes(home: Home, standing: int, each: int) -> int:
    """How many branches that add `each` tokens to the same `standing` ones may run side by side: none should have to wait for
    the cells of another. At least one.
    """
    cells = home.settings_on(home.engine).num_cells
    return max(1, min(AT_ONCE, (cells - standing) // max(1, each))) if cells else AT_ONCE
