"""A loaded model says what there is to compute it with: figures from a CPU are not to be taken for a GPU's."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.adapters import tiny_models

from sessiond.adapters.base import ModelSettings
from sessiond.adapters.llama_cpp import ADAPTER


@pytest.mark.parametrize("extra_buffers", [True, False])
def test_the_devices_are_told(tmp_path: Path, extra_buffers: bool) -> None:
    path = tmp_path / "model.gguf"
    tiny_models.plain(path, layers=1)
    model = ADAPTER.load(str(path), ModelSettings(extra_buffers=extra_buffers), lambda _: None)
    devices, *others = model.facts.notes
    assert devices.startswith("devices: ") and "CPU (" in devices
    assert others == ([] if extra_buffers else ["extra buffer types are off"])
    model.close()
