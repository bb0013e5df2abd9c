"""Deterministic contexts of llama.cpp: which kind is taken, how that is found, and what it holds through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest

from sessiond.adapters.base import ContextSettings, ModelSettings, NoRoom, Run, SettingsError
from sessiond.adapters.llama_cpp import ADAPTER, deterministic, embedded_model, padded, trial
from sessiond.adapters.llama_cpp.context import LlamaContext
from sessiond.adapters.llama_cpp.model import LlamaModel
from sessiond.adapters.llama_cpp.padded import SharedContext, SingleContext
from sessiond.adapters.llama_cpp.sequences import Sequences

from .tiny_models import plain

pytestmark = pytest.mark.model

_TEXT = [(index * 37 + 10) % 256 for index in range(300)]
_OTHER = [(index * 91 + 20) % 256 for index in range(300)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("deterministic") / "model.gguf"
    plain(path)
    return str(path)


@pytest.fixture(scope="module")
def model(path: str) -> Iterator[LlamaModel]:
    model = _load(path)
    yield model
    model.close()


@pytest.fixture
def other_model(path: str) -> Iterator[LlamaModel]:
    """One that has found nothing yet."""
    model = _load(path)
    yield model
    model.close()


def _load(path: str) -> LlamaModel:
    model = ADAPTER.load(path, ModelSettings(), lambda _: None)
    assert isinstance(model, LlamaModel)
    return model


def _settings(variant: str = "", **changes: object) -> ContextSettings:
    chosen: dict[str, object] = {"num_ctx": 512, "num_batch": 256, "num_ubatch": 64, "deterministic": True}
    return ContextSettings(**(chosen | changes), variant=variant)  # type: ignore[arg-type]  # the callers' names


def _append(context: LlamaContext, sequence: int, *chunks: list[int]) -> bytes:
    for chunk in chunks:
        context.decode([Run(sequence, context.end(sequence), chunk, want_logits=True)])
    return context.logits(0)


def _fresh(model: LlamaModel, settings: ContextSettings, tokens: list[int]) -> bytes:
    context = model.new_context(settings)
    try:
        return _append(context, 0, *(tokens[start : start + 64] for start in range(0, len(tokens), 64)))
    finally:
        context.close()


# ---- which kind


@pytest.fixture
def no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial would fail the test."""

    def fail(*_: object) -> None:
        pytest.fail("a trial was made")

    monkeypatch.setattr(deterministic, "find_row_width", fail)


@pytest.mark.parametrize(
    ("variant", "kind", "sequences"),
    [("shared/1", SharedContext, 63), ("shared/8", SharedContext, 63), ("single/2", SingleContext, 1)],
)
def test_a_variant_that_is_given_spares_the_trial(
    model: LlamaModel, no_trial: None, variant: str, kind: type[LlamaContext], sequences: int
) -> None:
    context = model.new_context(_settings(variant))
    assert isinstance(context, kind)
    assert context.max_sequences == sequences
    assert context.settings.variant == variant
    assert context.settings.flash_attn is (kind is SharedContext)
    context.close()


@pytest.mark.parametrize("word", ["", "shared", "shared/3", "shared/1 ", "both/1", "single/-1"])
def test_another_word_is_as_good_as_none(
    other_model: LlamaModel, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setattr(deterministic, "find_row_width", lambda *_: 4)
    assert other_model.new_context(_settings(word)).settings.variant == "shared/4"


def test_a_variant_of_other_attention_is_none(
    other_model: LlamaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deterministic, "find_row_width", lambda *_: 2)
    context = other_model.new_context(_settings("shared/1", flash_attn=False))
    assert (context.settings.variant, context.settings.flash_attn) == ("single/2", False)


def test_what_was_found_is_remembered(other_model: LlamaModel, monkeypatch: pytest.MonkeyPatch) -> None:
    trials: list[object] = []

    def find(make: object, _: int) -> int:
        trials.append(make)
        return 1

    monkeypatch.setattr(deterministic, "find_row_width", find)
    for settings in (_settings(), _settings(num_ctx=256), _settings(kv_cache_type="q8_0")):
        other_model.new_context(settings)
    assert len(trials) == 2


def test_where_one_kind_does_not_do_the_other_is_tried(
    other_model: LlamaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths = iter([None, 2])
    monkeypatch.setattr(deterministic, "find_row_width", lambda *_: next(widths))
    assert other_model.new_context(_settings()).settings.variant == "single/2"


def test_where_none_does_it_is_refused(other_model: LlamaModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deterministic, "find_row_width", lambda *_: None)
    with pytest.raises(SettingsError) as caught:
        other_model.new_context(_settings())
    assert caught.value.setting == "deterministic"


# ---- the trial


@pytest.fixture(scope="module")
def real_model() -> Iterator[LlamaModel]:
    """Its weights are quantized, and it shows more of how the work was cut than a model of a few numbers."""
    path = embedded_model()
    assert path is not None
    model = _load(path)
    yield model
    model.close()


def _find_shared(model: LlamaModel, monkeypatch: pytest.MonkeyPatch, *widths: int) -> int | None:
    """The width that a trial of shared contexts finds among these."""
    monkeypatch.setattr(trial, "WIDTHS", widths)
    settings = _settings(num_ctx=trial.CELLS, num_batch=trial.CELLS, num_ubatch=256)

    def make(width: int) -> SharedContext:
        context = model.new_context(replace(settings, variant=f"shared/{width}"))
        assert isinstance(context, SharedContext)
        return context

    return trial.find_row_width(make, model.facts.vocab.size)


def test_shared_contexts_pass_where_attention_has_one_path(
    real_model: LlamaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _find_shared(real_model, monkeypatch, 1, 2, 8) is not None


def test_the_three_paths_of_flash_attention_do_not_pass(
    real_model: LlamaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(padded, "_key_type", lambda _: None)
    assert _find_shared(real_model, monkeypatch, 1, 2, 8) is None


def test_cells_without_order_do_not_pass(real_model: LlamaModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def sweep(_: SharedContext) -> None:
        pass

    monkeypatch.setattr(SharedContext, "_make_sequences", lambda _, native: Sequences(native))
    monkeypatch.setattr(SharedContext, "sweep", sweep)
    assert _find_shared(real_model, monkeypatch, 2) is None


# ---- what it holds through


@pytest.fixture(params=["f16", "q8_0"])
def settings(request: pytest.FixtureRequest, model: LlamaModel) -> ContextSettings:
    """Of contexts that were found to be deterministic, with many sequences."""
    context = model.new_context(_settings(kv_cache_type=request.param))
    found = context.settings
    context.close()
    if context.max_sequences == 1:
        pytest.skip("shared contexts are not deterministic on this machine")
    return found


def _wider(settings: ContextSettings, times: int) -> ContextSettings:
    kind, width = settings.variant.split("/")
    return replace(settings, variant=f"{kind}/{int(width) * times}")


@pytest.mark.parametrize("times", [1, 4])
def test_branches_in_full_cells_answer_as_fresh_ones(
    model: LlamaModel, settings: ContextSettings, times: int
) -> None:
    settings = _wider(settings, times)
    context = model.new_context(settings)
    _append(context, 1, _OTHER[:30])
    _append(context, 0, _TEXT[:100])
    context.share(0, 2, 80)
    # More than twice as many tokens come and go as there are cells, so that they are put together again and again.
    for _ in range(6):
        _append(context, 3, _OTHER[:90], _OTHER[90:150])
        context.drop(3)
    context.drop(1)
    assert _append(context, 2, _TEXT[80:97], _TEXT[97:98], _TEXT[98:160]) == _fresh(
        model, settings, _TEXT[:160]
    )
    assert _append(context, 0, _OTHER[:5]) == _fresh(model, settings, _TEXT[:100] + _OTHER[:5])
    context.close()


def test_a_branch_that_is_cut_again_and_again_answers_as_a_fresh_one(
    model: LlamaModel, settings: ContextSettings
) -> None:
    context = model.new_context(settings)
    _append(context, 0, _TEXT[:60])
    context.share(0, 1, 60)
    for step in range(8):
        context.truncate(0, 50 - step)
        logits = _append(context, 0, _OTHER[:150])
        assert logits == _fresh(model, settings, _TEXT[: 50 - step] + _OTHER[:150])
    assert _append(context, 1, _TEXT[60:64]) == _fresh(model, settings, _TEXT[:64])
    context.close()


def test_a_piece_is_loaded_into_cells_full_of_waste(model: LlamaModel, settings: ContextSettings) -> None:
    context = model.new_context(settings)
    _append(context, 0, _TEXT[:120])
    piece = context.save(0, 40)
    context.truncate(0, 40)
    for _ in range(2):
        _append(context, 1, _OTHER[:170])
        context.drop(1)
    context.load(0, piece, 40)
    assert _append(context, 0, _TEXT[120:123]) == _fresh(model, settings, _TEXT[:123])
    context.close()


@pytest.mark.parametrize("which", ["model", "real_model"])
def test_pieces_of_the_only_sequence_go_on_as_a_fresh_one(request: pytest.FixtureRequest, which: str) -> None:
    """No sequence is lent for them, and each is loaded into the very cells that it comes from."""
    model: LlamaModel = request.getfixturevalue(which)
    first = model.new_context(_settings(flash_attn=False))
    given = first.settings
    second = model.new_context(given)
    assert given.variant.startswith("single/") and first.max_sequences == 1
    _append(first, 0, _OTHER[:50])
    first.truncate(0, 0)
    _append(first, 0, _TEXT[:64], *([token] for token in _TEXT[64:70]), _TEXT[70:201])
    for start, end in pairwise((0, 37, 38, 128, 200)):
        second.load(0, first.save(0, start, end), start)
    first.truncate(0, 200)
    assert second.save(0) == first.save(0)
    fresh = _fresh(model, given, _TEXT[:203])
    assert _append(second, 0, _TEXT[200:203]) == _append(first, 0, _TEXT[200:203]) == fresh
    first.close()
    second.close()


def test_only_cells_in_use_count(model: LlamaModel) -> None:
    context = model.new_context(_settings("shared/1", num_ctx=256))
    _append(context, 0, _TEXT[:200])
    _append(context, 1, _OTHER[:56])
    with pytest.raises(NoRoom):
        _append(context, 2, _OTHER[:1])
    context.drop(1)
    with pytest.raises(NoRoom):
        _append(context, 2, _OTHER[:57])
    assert [context.end(sequence) for sequence in range(3)] == [200, 0, 0]
    _append(context, 2, _OTHER[:56])
    context.close()


def test_a_state_in_another_order_is_refused(model: LlamaModel) -> None:
    plain, context = (
        model.new_context(_settings(deterministic=False)),
        model.new_context(_settings("shared/1")),
    )
    for each in (plain, context):
        _append(each, 0, _TEXT[:20])
    # A drop in front, and the second half of a sequence stands before the first.
    _append(plain, 1, _TEXT[:20])
    plain.drop(0)
    _append(plain, 1, _TEXT[20:40])
    with pytest.raises(Exception, match="positions"):
        context.load(1, plain.save(1))
    assert context.end(1) == 0
    plain.close()
    context.close()
