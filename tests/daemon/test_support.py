"""What a bundle is told of the daemon's settings: nothing that could be somebody's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sessiond.daemon.settings import Settings
from sessiond.daemon.support import told_settings, versions

MARK = "QuetzalcoatlSleeps"


@pytest.fixture(autouse=True)
def nothing_of_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither variables nor a file say anything."""
    for name in [name for name in os.environ if name.startswith("SESSIOND_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def _marked() -> Settings:
    """Every setting that takes a text or a path has one."""
    marked: dict[str, object] = {}
    for name in Settings.model_fields:
        value = getattr(Settings(), name)
        kind = str(Settings.model_fields[name].annotation)
        if "Path" in kind:
            marked[name] = [Path(f"/{MARK}/a")] if isinstance(value, list) else Path(f"/{MARK}/b")
        elif isinstance(value, str) and "Literal" not in kind:
            marked[name] = MARK
    assert {"token", "model", "socket", "model_dirs", "state_dir", "tcp", "metrics"} <= marked.keys()
    return Settings(**marked)  # type: ignore[arg-type]  # by their own names


def test_texts_and_paths_stay_out() -> None:
    told = told_settings(_marked())
    assert MARK not in str(told)
    assert told["token"] == told["model"] == told["model_dirs"] == "given"


def test_numbers_switches_and_choices_are_told() -> None:
    told = told_settings(Settings(num_ctx=77, keep_hot=False, log_level="debug", stop_grace_s=2.5))
    assert (told["num_ctx"], told["keep_hot"], told["log_level"], told["stop_grace_s"]) == ("77", "False", "debug", "2.5")  # fmt: skip
    assert told["memory_tier_mb"] == "None"
    assert told["token"] == told["model"] == "default"


def test_every_setting_is_told_of() -> None:
    assert told_settings(Settings()).keys() == Settings.model_fields.keys()


def test_versions_are_those_that_run() -> None:
    told = versions()
    assert {"python", "sessiond", "grpcio", "prometheus-client"} <= told.keys()
    assert all(text and text[0].isdigit() for text in told.values())
