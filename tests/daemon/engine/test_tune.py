"""How the fastest way is chosen, and that the real model can be measured."""

from __future__ import annotations

from dataclasses import replace

import psutil
import pytest
from tests.daemon.engine.scripted import load

from sessiond.adapters.base import ContextSettings
from sessiond.daemon.engine import tune, wire

OWN = ContextSettings(num_ctx=512, num_ubatch=256, num_threads=4, num_threads_batch=4, flash_attn=False)


def _trial(settings: ContextSettings, *laps: tuple[float, float, float]) -> wire.Trial:
    return wire.Trial(settings, [wire.Lap(*lap) for lap in laps])


def _chosen(*trials: wire.Trial) -> ContextSettings | None:
    return tune.choose(wire.Measured(list(trials), bulk_tokens=256))


def test_nothing_measured_chooses_nothing() -> None:
    assert _chosen() is None


def test_alike_is_the_adapter_s_own_choice() -> None:
    other = replace(OWN, flash_attn=True)
    assert _chosen(_trial(OWN, (100, 10, 1)), _trial(other, (95, 9.5, 0.95))) == OWN


@pytest.mark.parametrize(
    ("change", "lap"),
    [
        ({"flash_attn": True}, (50.0, 5.0, 0.5)),
        ({"num_threads": 2}, (100.0, 10.0, 0.5)),
        ({"num_threads_batch": 8}, (50.0, 5.0, 1.0)),
        ({"num_ubatch": 512}, (50.0, 10.0, 1.0)),
    ],
)
def test_what_is_clearly_faster_is_taken(change: dict[str, int], lap: tuple[float, float, float]) -> None:
    faster = replace(OWN, **change)  # type: ignore[arg-type]  # a field's own value
    slower = _trial(replace(OWN, num_threads=1, num_threads_batch=1), (300, 30, 3))
    assert _chosen(_trial(OWN, (100, 10, 1)), slower, _trial(faster, lap)) == faster


def test_attention_counts_for_the_whole_turn() -> None:
    """Faster in bulk, and slower in all that a warm turn is made of: an answer of 64 tokens weighs more."""
    on = replace(OWN, flash_attn=True)
    assert _chosen(_trial(OWN, (100, 10, 10)), _trial(on, (50, 40, 20))) == OWN


def test_a_lap_in_which_the_machine_was_busy_decides_nothing() -> None:
    other = replace(OWN, num_threads=2)
    quiet, busy = (100, 10, 1), (100, 10, 9)
    assert _chosen(_trial(OWN, quiet, busy, quiet), _trial(other, quiet, quiet, quiet)) == OWN


def test_what_was_slow_for_all_in_one_lap_is_compared_within_it() -> None:
    faster = replace(OWN, num_threads=2)
    own = _trial(OWN, (100, 10, 1), (900, 90, 9), (500, 50, 5))
    assert _chosen(own, _trial(faster, (100, 10, 0.5), (900, 90, 4.5), (500, 50, 2.5))) == faster


def test_two_things_are_put_together() -> None:
    trials = [
        _trial(OWN, (100, 10, 1)),
        _trial(replace(OWN, num_threads=2), (100, 10, 0.5)),
        _trial(replace(OWN, num_ubatch=512), (50, 10, 1)),
    ]
    assert _chosen(*trials) == replace(OWN, num_threads=2, num_ubatch=512)


def test_without_variants_nothing_is_measured() -> None:
    assert tune.measure(load("scripted-kv:")) == wire.Measured([])


def test_a_busy_machine_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load("scripted-kv:")
    monkeypatch.setattr(type(model), "variants", lambda _self, settings: [settings, settings])
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: 90.0)
    assert tune.measure(model) == wire.Measured([], busy=True)


def test_every_variant_has_its_laps(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load("scripted-kv:num_ctx=2048")
    monkeypatch.setattr(
        type(model), "variants", lambda _self, settings: [settings, replace(settings, num_ubatch=7)]
    )
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: 0.0)
    measured = tune.measure(model)
    assert [trial.settings.num_ubatch for trial in measured.trials][1] == 7
    assert [len(trial.laps) for trial in measured.trials] == [tune.LAPS] * 2
    assert 0 < measured.bulk_tokens <= tune.MOST_BULK
    assert tune.choose(measured) is not None
