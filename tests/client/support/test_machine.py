"""The machine's description: what it is, and not whose."""

from __future__ import annotations

import getpass
import json
import os
import platform

from sessiond.client.support.machine import machine


def test_it_says_what_speed_depends_on() -> None:
    told = machine()
    assert told["cpus"] == os.cpu_count()
    assert told["architecture"] == platform.machine()
    if platform.system() == "Linux":
        assert told["memory_bytes"] > told["memory_available_bytes"] > 0
        assert told["cpus_usable"] == len(os.sched_getaffinity(0))


def test_it_does_not_say_whose_it_is() -> None:
    told = machine()
    assert platform.node() not in {str(value) for value in told.values()}
    assert not {"host", "hostname", "node", "user"} & told.keys()
    assert f"/{getpass.getuser()}" not in json.dumps(told)
