"""The ways to run that a model offers for a measurement."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from sessiond.adapters.base import ContextSettings, Model

from .kit import small

_OPEN = ContextSettings(num_ctx=256)


def _differ(one: ContextSettings, other: ContextSettings) -> set[str]:
    left, right = asdict(one), asdict(other)
    return {name for name in left if left[name] != right[name]}


def test_the_first_variant_is_the_default_and_the_others_differ_in_one_thing(model: Model) -> None:
    found = list(model.variants(_OPEN))
    if not found:
        return
    context = model.new_context(_OPEN)
    try:
        assert found[0] == context.settings
    finally:
        context.close()
    assert len(found) > 1
    assert len(set(found)) == len(found)
    assert all(len(_differ(found[0], each)) == 1 for each in found[1:])


def test_a_variant_runs_as_it_says(model: Model) -> None:
    for variant in model.variants(_OPEN):
        context = model.new_context(variant)
        try:
            assert context.settings == variant
        finally:
            context.close()


def test_variants_keep_what_is_given(model: Model) -> None:
    given = small(flash_attn=True, kv_cache_type="f16")
    for variant in model.variants(given):
        assert all(getattr(variant, name) == value for name, value in asdict(given).items() if value)


@pytest.mark.parametrize("asked", [{"deterministic": True}, {"kv_cache_type": "q8_0"}])
def test_what_decides_attention_leaves_it_no_choice(model: Model, asked: dict[str, object]) -> None:
    found = model.variants(ContextSettings(num_ctx=256, **asked))  # type: ignore[arg-type]  # see the parameters
    assert len({variant.flash_attn for variant in found}) <= 1
