"""The short form of `scripts/fuzz.py`: whatever is sent, the daemon stands and says why."""

from __future__ import annotations

import random

from fuzz import fuzz
from fuzz_messages import Maker, Pool, rpcs


def test_whatever_is_sent_the_daemon_stands() -> None:
    found = fuzz("scripted-kv:num_ctx=2048", seconds=10.0, seed=6, clients=3)
    assert found.faults == []
    assert found.calls > 200
    assert found.answered > 20, "some of it is sound"
    assert found.configs > 1
    assert {"INVALID_INPUT", "UNSUPPORTED_FEATURE", "SESSION_NOT_FOUND", "FUNCTION_NOT_FOUND"} <= set(
        found.reasons
    )


def test_a_seed_names_a_run() -> None:
    def told(seed: int) -> list[bytes]:
        maker = Maker(random.Random(seed), Pool({"name": ["sessions/a"]}))
        return [maker.data(rpc.request) for _ in range(20) for rpc in rpcs()]

    assert told(1) == told(1) != told(2)


def test_every_field_of_the_contract_is_tried() -> None:
    maker = Maker(random.Random(0), Pool())
    for rpc in rpcs():
        wanted = {each.name for each in rpc.request.DESCRIPTOR.fields}
        seen: set[str] = set()
        for _ in range(400):
            message = rpc.request()
            maker._fill(message, 2)
            seen |= {each.name for each, _ in message.ListFields()}
        assert seen == wanted, rpc.path
