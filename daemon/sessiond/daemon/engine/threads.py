"""How the threads that compute lie on few processors, told to OpenMP by the environment of an engine.

Each has a processor to itself, and who waits for the next batch spins less long. Left to themselves, the kernel now and then
puts two of them on one processor while the other one idles: each then spins for what the other one is to do, and a step of 8 ms takes
16. Spinning as long as libgomp does by itself (some 4 ms), they keep daemon and client from what the batch just told.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from sessiond.daemon.machine import cores

FEW = 2
"""Processors, all of which a batch takes. With more there is an idle one for who is woken up."""
_BOUND = {
    "OMP_PROC_BIND": "true",
    "OMP_PLACES": "threads",
    "GOMP_SPINCOUNT": "20000",  # half a millisecond: between the steps of one batch they wait for less
}
_TUNED = ("OMP_", "GOMP_", "KMP_")
"""How the names of the variables begin by which people tune an OpenMP library."""


def engine_environment(ours: Mapping[str, str] = os.environ, processors: int | None = None) -> dict[str, str]:
    """The environment of an engine, given the daemon's own. Who has tuned OpenMP is left alone."""
    few = (cores() if processors is None else processors) <= FEW
    tuned = any(name.startswith(_TUNED) for name in ours)
    return {**(_BOUND if few and not tuned else {}), **ours}
