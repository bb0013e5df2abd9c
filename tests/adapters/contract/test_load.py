"""Loading a model: what it tells meanwhile, how it fails, how it ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sessiond.adapters.base import ModelLoadError, ModelSettings

from .kit import small
from .subjects import Subject, load


def _missing(_: str, folder: Path) -> Path:
    return folder / "missing.gguf"


def _folder(_: str, folder: Path) -> Path:
    path = folder / "folder.gguf"
    path.mkdir()
    return path


def _empty(_: str, folder: Path) -> Path:
    path = folder / "empty.gguf"
    path.touch()
    return path


def _no_model(_: str, folder: Path) -> Path:
    path = folder / "text.gguf"
    path.write_text("The file of a model begins otherwise.\n" * 100)
    return path


def _cut(share: float) -> Callable[[str, Path], Path]:
    def make(model: str, folder: Path) -> Path:
        path, whole = folder / "cut.gguf", Path(model)
        data = whole.read_bytes() if whole.is_file() else b"GGUF" * 100
        path.write_bytes(data[: int(len(data) * share)])
        return path

    return make


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(_missing, id="missing"),
        pytest.param(_folder, id="folder"),
        pytest.param(_empty, id="empty"),
        pytest.param(_no_model, id="not a model"),
        pytest.param(_cut(0.0001), id="cut in its head"),
        pytest.param(_cut(0.5), id="cut in its weights"),
    ],
)
def test_what_is_no_whole_model_is_refused(
    subject: Subject, path: str, tmp_path: Path, make: Callable[[str, Path], Path]
) -> None:
    with pytest.raises(ModelLoadError):
        load(subject, str(make(path, tmp_path)))


def test_progress_is_told_in_growing_shares_of_1(subject: Subject, path: str) -> None:
    heard: list[float] = []
    subject.adapter().load(path, ModelSettings(), heard.append).close()
    assert heard == sorted(heard)
    assert all(0 <= share <= 1 for share in heard)


def test_the_same_model_has_the_same_facts(subject: Subject, path: str) -> None:
    one, other = load(subject, path), load(subject, path)
    try:
        assert one.facts == other.facts
    finally:
        one.close()
        other.close()


def test_an_adapter_accepts_its_own_models(subject: Subject, path: str) -> None:
    assert subject.adapter().accepts(path)


def test_closing_a_model_closes_its_contexts_and_twice_is_once(subject: Subject, path: str) -> None:
    model = load(subject, path)
    context = model.new_context(small())
    model.close()
    model.close()
    context.close()


def test_closing_one_model_leaves_another_alone(subject: Subject, path: str) -> None:
    one, other = load(subject, path), load(subject, path)
    try:
        one.close()
        assert other.tokenize("still there", parse_special=False)
        other.new_context(small()).close()
    finally:
        other.close()
