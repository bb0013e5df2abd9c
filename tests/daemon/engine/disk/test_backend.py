"""The whole way with a backend: KV that was computed, kept and brought back answers as if it had been computed anew."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.daemon.engine.disk.made import SPACE, Place
from tests.daemon.engine.scripted import kv_context, load

from sessiond.adapters.base import BackendError, Run
from sessiond.adapters.scripted.kv import ScriptedKv
from sessiond.daemon.engine.disk import DiskTier, Found

_PATIENCE_S = 30.0
_MODEL = load("scripted-kv:")
_CHANCE = random.Random(6)
_BASE = [_CHANCE.randrange(256) for _ in range(900)]
_BRANCHES = [
    _BASE,
    [*_BASE[:600], *(_CHANCE.randrange(256) for _ in range(300))],
    [*_BASE[:620], 7, *_BASE[620:]],
    _BASE[:300],
]


def _tier(path: Path) -> DiskTier:
    tier = DiskTier(path, 1 << 30, keep_free=0, patience_s=0.0)
    assert tier.wait_open(_PATIENCE_S)
    return tier


def _compute(context: ScriptedKv, tokens: Sequence[int], end: int) -> None:
    while (at := context.end(0)) < end:
        step = min(end, at + context.settings.num_batch)
        context.decode([Run(0, at, tokens[at:step], want_logits=True)])


def _fresh_logits(tokens: Sequence[int]) -> bytes:
    context = kv_context(_MODEL, num_ctx=2048)
    _compute(context, tokens, len(tokens))
    return context.logits(0)


def _keep(tier: DiskTier, tokens: Sequence[int]) -> int:
    """Compute all of it, and save what is missing, piece by piece."""
    context, missing = kv_context(_MODEL, num_ctx=2048), tier.missing(SPACE, tokens)
    _compute(context, tokens, len(tokens))
    for run in missing:
        assert tier.put(run, context.save(0, run.start, run.end))
    assert tier.flush(_PATIENCE_S)
    return sum(run.end - run.start for run in missing)


def _fetch(tier: DiskTier, found: Found) -> bytes | None:
    got, over = list[bytes | None](), threading.Event()

    def hear(payload: bytes | None, _read_s: float) -> None:
        got.append(payload)
        over.set()

    tier.fetch(found, hear)
    assert over.wait(_PATIENCE_S)
    return got[0]


def _bring_back(tier: DiskTier, tokens: Sequence[int]) -> tuple[ScriptedKv, int]:
    """A fresh context with these tokens, and how many came back."""
    context, back = kv_context(_MODEL, num_ctx=2048), 0
    for found in tier.ahead(SPACE, tokens, 0):
        if (payload := _fetch(tier, found)) is None:
            continue
        _compute(context, tokens, found.start)
        tier.begin_use(found)
        try:
            context.load(0, payload, found.start)
        except BackendError as error:
            tier.end_use(found, str(error))
            continue
        tier.end_use(found)
        context.truncate(0, found.end)
        back += found.matched
    _compute(context, tokens, len(tokens) - 1)
    context.truncate(0, len(tokens) - 1)  # logits come with no state
    _compute(context, tokens, len(tokens))
    return context, back


def test_after_a_restart_every_branch_answers_as_a_fresh_one(tmp_path: Path) -> None:
    tier = _tier(tmp_path / "tier")
    assert [_keep(tier, branch) for branch in _BRANCHES] == [900, 300, 281, 0]
    tier.close()
    tier = _tier(tmp_path / "tier")
    for branch in _BRANCHES:
        context, back = _bring_back(tier, branch)
        assert back == len(branch) and context.logits(0) == _fresh_logits(branch)
    tier.close()


@pytest.mark.parametrize("lost", range(4))
def test_with_any_entry_lost_the_rest_comes_back_and_is_right(tmp_path: Path, lost: int) -> None:
    tier = _tier(tmp_path / "tier")
    _keep(tier, _BASE)
    name = tier.ahead(SPACE, _BASE, 0)[lost].entry.label.name
    tier.close()
    (tmp_path / "tier" / "entries" / name).unlink()
    tier = _tier(tmp_path / "tier")
    context, back = _bring_back(tier, _BASE)
    assert back == 900 - min(256, 900 - 256 * lost) and context.logits(0) == _fresh_logits(_BASE)
    tier.close()


def test_a_payload_that_the_backend_refuses_is_set_aside(tmp_path: Path) -> None:
    """Whole and sound as a file, and not the KV that it should be."""
    place = Place(tmp_path / "tier")
    runs = place.missing(_BASE)
    place.store.put(runs[1], b"no state of any backend")
    place.store.close()
    tier = _tier(tmp_path / "tier")
    context, back = _bring_back(tier, _BASE)
    assert back == 0 and context.logits(0) == _fresh_logits(_BASE)
    assert tier.flush(_PATIENCE_S) and tier.ahead(SPACE, _BASE, 0) == []
    assert _keep(tier, _BASE) == 900 - 256, "it is not written again while it is kept aside"
    tier.close()
