"""A full run lets the daemon find out how the model runs fastest, and says what it found."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.adapters.tiny_models import plain

from benchmark.machine import machine
from benchmark.ours import Ours
from benchmark.sides import Work
from benchmark.took import NotMeasured
from demo_daemon import daemon_pid


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, for sockets."""
    with tempfile.TemporaryDirectory(prefix="sd-") as name:
        plain(Path(name, "tiny.gguf"), layers=1)
        yield Path(name)


def test_what_the_daemon_chose_is_told_and_holds_after_a_restart(folder: Path) -> None:
    ours = Ours(folder, str(folder / "tiny.gguf"), 1.0, measure=True)
    try:
        found = machine(ours.ways())
        log = (folder / "daemon.log").read_text("utf-8", "replace")  # the next daemon begins it anew
        ours.restart()
        again = machine(ours.ways())
    finally:
        ours.close()
    assert (again.chosen, again.ways) == (found.chosen, found.ways)
    if not found.ways:
        assert (found.chosen, "busy" in log) == ({}, True)
        return
    for name in ("flash_attn", "num_threads", "num_threads_batch", "num_ubatch"):
        assert found.chosen[name] in {way.settings[name] for way in found.ways}
    assert all(min(way.bulk_tokens_per_second, way.small_ms, way.single_ms) > 0 for way in found.ways)
    assert len({tuple(way.settings.values()) for way in found.ways}) == len(found.ways)


def test_without_it_nothing_is_measured(folder: Path) -> None:
    ours = Ours(folder, str(folder / "tiny.gguf"), 1.0)
    try:
        found = machine(ours.ways())
    finally:
        ours.close()
    assert (found.chosen, found.ways, ours.flags) == ({}, [], ["serve", "--no-measure"])


def test_a_daemon_that_is_gone_is_not_measured_and_begins_anew(folder: Path) -> None:
    ours = Ours(folder, str(folder / "tiny.gguf"), 1.0)
    try:
        ours.begin(Work("test", 100, 1))
        process = psutil.Process(daemon_pid(folder))
        process.kill()
        process.wait(10)
        with pytest.raises(NotMeasured):
            ours.think()
        ours.begin(Work("next", 200, 1))
        assert ours.config().num_ctx == 200
    finally:
        ours.close()
