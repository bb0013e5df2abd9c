"""What was measured is remembered, and never trusted."""

from __future__ import annotations

import stat
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from sessiond.adapters.base import ModelSettings
from sessiond.daemon.engine import wire
from sessiond.daemon.engine.engine import Engine
from sessiond.daemon.engine.measured import MAX_FILE, Measurements
from sessiond.daemon.engine.process import EngineProcess

_SLOW, _FAST = wire.Lap(100, 10, 5), wire.Lap(100, 10, 1)


@pytest_asyncio.fixture
async def engine(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Engine, None]:
    """A scripted one whose measurement says that one thread is enough; `measured` counts."""
    process = await EngineProcess.start()
    loaded = await Engine.load(process, "scripted-kv", "scripted-kv:", ModelSettings(), lambda _share: None)
    own = replace(loaded.defaults, num_ubatch=32, num_threads=4, num_threads_batch=4, flash_attn=False)
    loaded.defaults = own

    async def measure(self: Engine) -> wire.Measured:
        COUNTS.append(1)
        fast = replace(own, num_threads=1)
        return wire.Measured([wire.Trial(own, [_SLOW]), wire.Trial(fast, [_FAST])], 256)

    COUNTS.clear()
    monkeypatch.setattr(Engine, "measure", measure)
    yield loaded
    await process.stop()


COUNTS: list[int] = []


async def test_a_model_is_measured_once(engine: Engine, tmp_path: Path) -> None:
    for _ in range(3):
        await Measurements(tmp_path / "measured").apply(engine, ModelSettings())
        assert engine.defaults.num_threads == 1
    assert len(COUNTS) == 1
    [file] = (tmp_path / "measured").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


async def test_another_way_of_loading_is_measured_apart(engine: Engine, tmp_path: Path) -> None:
    for loading in (ModelSettings(), ModelSettings(extra_buffers=False)):
        await Measurements(tmp_path).apply(engine, loading)
    assert len(COUNTS) == 2


async def test_without_a_folder_nothing_is_measured(engine: Engine) -> None:
    await Measurements().apply(engine, ModelSettings())
    assert (len(COUNTS), engine.defaults.num_threads) == (0, 4)


def _only_file(folder: Path) -> Path:
    [file] = folder.iterdir()
    return file


_GOOD = {
    "settings": {"num_ubatch": 32, "num_threads": 1, "num_threads_batch": 4},
    "laps": [{"bulk_ms": 1.0, "small_ms": 1.0, "single_ms": 1.0}],
}


@pytest.mark.parametrize(
    "change",
    [
        {"trials": []},
        {"bulk_tokens": 0},
        {"trials": [{**_GOOD, "laps": []}]},
        {"trials": [_GOOD, {**_GOOD, "laps": _GOOD["laps"] * 2}]},  # type: ignore[operator]
        {"trials": [{**_GOOD, "laps": [{"bulk_ms": 1.0, "small_ms": 0.0, "single_ms": 1.0}]}]},
        {"trials": [{**_GOOD, "laps": [{"bulk_ms": -1.0, "small_ms": 1.0, "single_ms": 1.0}]}]},
        {"trials": [{**_GOOD, "settings": {"num_ubatch": 0, "num_threads": 1, "num_threads_batch": 1}}]},
        {
            "trials": [
                {**_GOOD, "settings": {"num_ubatch": 32, "num_threads": 1 << 20, "num_threads_batch": 1}}
            ]
        },
        {"trials": [{**_GOOD, "settings": {"num_ubatch": "x"}}]},
        {"trials": "x"},
    ],
)
async def test_a_file_that_is_not_sound_is_measured_anew(
    engine: Engine, tmp_path: Path, change: dict[str, object]
) -> None:
    await Measurements(tmp_path).apply(engine, ModelSettings())
    file = _only_file(tmp_path)
    kept = msgspec.json.decode(file.read_bytes())
    kept["measured"] |= change
    file.write_bytes(msgspec.json.encode(kept))
    await Measurements(tmp_path).apply(engine, ModelSettings())
    assert (len(COUNTS), engine.defaults.num_threads) == (2, 1)
    assert msgspec.json.decode(file.read_bytes())["measured"]["bulk_tokens"] == 256


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b" " * (MAX_FILE + 1),
        b'{"identity": [], "measured": {"trials": [], "type": "Measured"}}',
    ],
)
async def test_nonsense_is_measured_anew(engine: Engine, tmp_path: Path, data: bytes) -> None:
    await Measurements(tmp_path).apply(engine, ModelSettings())
    file = _only_file(tmp_path)
    file.write_bytes(data)
    await Measurements(tmp_path).apply(engine, ModelSettings())
    assert (len(COUNTS), engine.defaults.num_threads) == (2, 1)


async def test_a_file_of_another_machine_does_not_count(engine: Engine, tmp_path: Path) -> None:
    await Measurements(tmp_path).apply(engine, ModelSettings())
    file = _only_file(tmp_path)
    kept = msgspec.json.decode(file.read_bytes())
    kept["identity"][1] = "another processor"
    file.write_bytes(msgspec.json.encode(kept))
    await Measurements(tmp_path).apply(engine, ModelSettings())
    assert len(COUNTS) == 2


async def test_a_folder_that_cannot_be_made_costs_a_measurement(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    await Measurements(tmp_path / "file" / "measured").apply(engine, ModelSettings())
    assert engine.defaults.num_threads == 1
    assert _only_file(tmp_path).name == "file"
