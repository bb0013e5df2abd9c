"""Models that killed their engine twice are loaded no more, until a file of theirs changes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from sessiond.adapters.base import LoraSettings, ModelSettings
from sessiond.daemon.engine import aside
from sessiond.daemon.engine.aside import SetAside, stamp_of
from sessiond.daemon.engine.engine_key import EngineKey
from sessiond.daemon.engine.process import EngineDied
from sessiond.v1.errors import SessionUnavailable

FAULT = EngineDied("the engine was ended by signal SIGSEGV", 11)


@pytest.fixture
def key(tmp_path: Path) -> EngineKey:
    """A model with an adapter."""
    for name in ("model.gguf", "lora.gguf"):
        (tmp_path / name).write_bytes(b"x")
    settings = ModelSettings(loras=(LoraSettings(str(tmp_path / "lora.gguf"), 1.0),))
    return EngineKey(str(tmp_path / "model.gguf"), settings)


def _killed(key: EngineKey, *deaths: EngineDied) -> SetAside:
    made = SetAside()
    for died in deaths:
        made.check(key, stamp_of(key))
        made.died(key, stamp_of(key), died)
    return made


def test_once_is_not_enough(key: EngineKey) -> None:
    _killed(key, FAULT).check(key, stamp_of(key))


def test_twice_is_and_says_so(key: EngineKey) -> None:
    with pytest.raises(SessionUnavailable, match=r"set aside until its file changes.*2 times.*SIGSEGV"):
        _killed(key, FAULT, FAULT).check(key, stamp_of(key))


def test_an_end_without_a_signal_counts_too(key: EngineKey) -> None:
    died = EngineDied("the engine ended with exit code 3")
    with pytest.raises(SessionUnavailable, match="exit code 3"):
        _killed(key, died, died).check(key, stamp_of(key))


def test_a_load_that_came_to_its_end_begins_anew(key: EngineKey) -> None:
    killed = _killed(key, FAULT)
    killed.stood(key)
    killed.died(key, stamp_of(key), FAULT)
    killed.check(key, stamp_of(key))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_kill_from_outside_is_no_file_s_fault(key: EngineKey, number: signal.Signals) -> None:
    kill = EngineDied(f"the engine was ended by signal {number.name}", number)
    _killed(key, kill, kill, kill).check(key, stamp_of(key))


@pytest.mark.parametrize("name", ["model.gguf", "lora.gguf"])
@pytest.mark.parametrize("change", ["size", "time", "inode", "gone"])
def test_a_file_that_changed_is_tried_again(tmp_path: Path, key: EngineKey, name: str, change: str) -> None:
    killed = _killed(key, FAULT, FAULT)
    file = tmp_path / name
    match change:
        case "size":
            file.write_bytes(b"xx")
        case "time":
            os.utime(file, (1, 1))
        case "inode":
            told = file.stat()
            (tmp_path / "other").write_bytes(b"x")
            os.utime(tmp_path / "other", ns=(told.st_atime_ns, told.st_mtime_ns))
            (tmp_path / "other").replace(file)
        case _:
            file.unlink()
    killed.check(key, stamp_of(key))
    killed.died(key, stamp_of(key), FAULT)
    killed.check(key, stamp_of(key))  # and it has as many tries as before
    killed.died(key, stamp_of(key), FAULT)
    with pytest.raises(SessionUnavailable):
        killed.check(key, stamp_of(key))


def test_another_way_of_loading_it_is_not_set_aside(key: EngineKey) -> None:
    other = EngineKey(key.model, ModelSettings(num_gpu_layers=99))
    _killed(other, FAULT, FAULT).check(key, stamp_of(key))


def test_a_name_that_is_no_path_has_a_stamp_too() -> None:
    for name in ("scripted-kv:", "a\0b", "x" * 5000):
        assert stamp_of(EngineKey(name, ModelSettings())) == (None,)


def test_what_is_remembered_has_a_bound(key: EngineKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "REMEMBERED", 2)
    killed = _killed(key, FAULT, FAULT)
    for number in range(3):
        killed.died(EngineKey(f"m{number}", ModelSettings()), (None,), FAULT)
    killed.check(key, stamp_of(key))
