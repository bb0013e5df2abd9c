"""A context says what it runs with, and refuses what it cannot run with."""

from __future__ import annotations

import pytest

from sessiond.adapters.base import ContextSettings, Model, SettingsError

from .kit import small


def _assert_closed(settings: ContextSettings) -> None:
    assert 0 < settings.num_ctx <= settings.num_cells
    assert 0 < settings.num_ubatch <= settings.num_batch
    assert settings.num_threads > 0
    assert settings.num_threads_batch > 0
    assert settings.flash_attn is not None
    assert settings.kv_cache_type
    assert settings.rope_freq_base > 0
    assert settings.rope_freq_scale > 0


def test_nothing_is_left_open(model: Model) -> None:
    # The window is given: a model's own may need more memory than a test should take.
    context = model.new_context(ContextSettings(num_ctx=512))
    try:
        _assert_closed(context.settings)
    finally:
        context.close()


def test_what_is_asked_for_is_what_runs(model: Model) -> None:
    asked = small(kv_cache_type="f16")
    context = model.new_context(asked)
    try:
        found = context.settings
    finally:
        context.close()
    _assert_closed(found)
    assert found.num_ctx >= asked.num_ctx
    assert (found.num_batch, found.num_ubatch) == (asked.num_batch, asked.num_ubatch)
    assert (found.num_threads, found.num_threads_batch) == (asked.num_threads, asked.num_threads_batch)
    assert found.kv_cache_type == "f16"
    assert not found.deterministic


def test_resolved_settings_give_the_same_context_again(model: Model) -> None:
    first = model.new_context(small())
    again = model.new_context(first.settings)
    try:
        assert again.settings == first.settings
    finally:
        again.close()
        first.close()


def test_cells_are_as_many_as_the_window_or_as_asked_for(model: Model) -> None:
    plain, roomy = model.new_context(small(num_ctx=256)), model.new_context(small(num_ctx=256, num_cells=768))
    try:
        assert (plain.settings.num_ctx, plain.settings.num_cells) == (256, 256)
        assert (roomy.settings.num_ctx, roomy.settings.num_cells) == (256, 768)
    finally:
        plain.close()
        roomy.close()


def test_cells_below_the_window_are_refused(model: Model) -> None:
    with pytest.raises(SettingsError) as caught:
        model.new_context(small(num_ctx=512, num_cells=511))
    assert caught.value.setting == "num_cells"


def test_a_deterministic_context_says_so(model: Model) -> None:
    if model.facts.capabilities.deterministic:
        context = model.new_context(small(deterministic=True))
        assert context.settings.deterministic
        context.close()
    else:
        with pytest.raises(SettingsError) as caught:
            model.new_context(small(deterministic=True))
        assert caught.value.setting == "deterministic"


def test_an_unknown_type_of_cells_is_refused(model: Model) -> None:
    with pytest.raises(SettingsError) as caught:
        model.new_context(small(kv_cache_type="q9_9"))
    assert caught.value.setting == "kv_cache_type"


def test_closing_a_context_twice_is_once(model: Model) -> None:
    context = model.new_context(small())
    context.close()
    context.close()
