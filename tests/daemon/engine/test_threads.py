"""What OpenMP is told, and that a real engine computes with as many threads all the same."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sessiond.daemon.engine.threads import FEW, engine_environment


def test_on_few_processors_each_thread_has_its_own() -> None:
    assert engine_environment({"PATH": "/bin"}, FEW) == {
        "PATH": "/bin",
        "OMP_PROC_BIND": "true",
        "OMP_PLACES": "threads",
        "GOMP_SPINCOUNT": "20000",
    }


def test_on_many_the_kernel_decides() -> None:
    assert engine_environment({"PATH": "/bin"}, FEW + 1) == {"PATH": "/bin"}


@pytest.mark.parametrize("name", ["OMP_PROC_BIND", "OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_CPU_AFFINITY"])
def test_who_has_tuned_it_is_left_alone(name: str) -> None:
    assert engine_environment({name: "0"}, 1) == {name: "0"}


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no processor can be chosen here")
def test_a_thread_that_is_bound_does_not_make_the_adapter_count_one_processor() -> None:
    """OpenMP binds the thread that loads llama.cpp, and whoever asks there afterwards hears of one processor."""
    program = """
import os
before = len(os.sched_getaffinity(0))
from sessiond.adapters.llama_cpp import tuning
from sessiond.adapters.llama_cpp.library import library
library()
print(before, len(os.sched_getaffinity(0)), tuning._ALLOWED_CORES)
"""
    told = subprocess.run(
        [sys.executable, "-c", program],
        env=engine_environment({k: v for k, v in os.environ.items() if "OMP_" not in k}, FEW),
        capture_output=True,
        text=True,
        check=True,
    )
    before, after, counted = map(int, told.stdout.split())
    assert after == 1, "it binds"
    assert counted == before
