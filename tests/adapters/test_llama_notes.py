"""A loaded model says what computes it: figures from a CPU are not to be taken for a GPU's."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.adapters import tiny_models

from sessiond.adapters.base import ModelSettings
from sessiond.adapters.llama_cpp import ADAPTER


@pytest.mark.parametrize("extra_buffers", [True, False])
def test_without_layers_on_a_gpu_it_is_the_cpu(tmp_path: Path, extra_buffers: bool) -> None:
    path = tmp_path / "model.gguf"
    tiny_models.plain(path, layers=1)
    model = ADAPTER.load(
        str(path), ModelSettings(num_gpu_layers=0, extra_buffers=extra_buffers), lambda _: None
    )
    computed, *others = model.facts.notes
    assert computed.startswith("computed on ") and "CPU (" in computed
    assert others == ([] if extra_buffers else ["extra buffer types are off"])
    model.close()
