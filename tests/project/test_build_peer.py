"""llama-server is built from the same source with the same flags, and a build of other circumstances is another one."""

from __future__ import annotations

from pathlib import Path

import pytest

import build_llama
import build_peer
import provision
from host_probe import Compiler, Host

HOOK = Path("/cache/skip_llama_common.cmake")
COMPILER = Compiler(("/usr/bin/cc",), ("/usr/bin/c++",), "gcc", (12, 2), from_environment=False)
HOST = Host("Linux", "x86_64", frozenset({"avx2", "amx_tile"}), COMPILER)
PLANS = build_llama.plans(HOST, {}, HOOK)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_the_machine_code_is_that_of_the_bindings(plan: build_llama.Plan) -> None:
    defined = build_peer.defines(plan)
    decisive = {name for name in plan.defines if name.startswith(("GGML_", "CMAKE_C_", "CMAKE_CXX_"))}
    assert decisive
    assert {name: defined[name] for name in decisive} == {name: plan.defines[name] for name in decisive}


def test_the_parts_that_the_bindings_leave_out_are_built() -> None:
    defined = build_peer.defines(PLANS[0])
    assert build_llama.SKIP_COMMON not in defined
    assert {defined[f"LLAMA_BUILD_{part}"] for part in ("COMMON", "TOOLS", "SERVER")} == {"ON"}


def test_nothing_that_would_be_downloaded_is_built() -> None:
    defined = build_peer.defines(PLANS[0])
    assert {defined[name] for name in ("LLAMA_BUILD_UI", "LLAMA_USE_PREBUILT_UI", "LLAMA_OPENSSL")} == {"OFF"}


def test_the_folder_is_named_after_the_locked_version() -> None:
    requirement = provision.locked_requirement(build_llama.PACKAGE)
    version = requirement.split()[0].removeprefix(f"{build_llama.PACKAGE}==")
    assert build_peer.folder_name(requirement, {}, {}).startswith(f"{version}-")


def test_another_source_plan_or_environment_is_another_folder() -> None:
    plain = build_peer.defines(PLANS[0])
    names = {
        build_peer.folder_name("a==1 --hash=sha256:0", plain, {}),
        build_peer.folder_name("a==1 --hash=sha256:1", plain, {}),
        build_peer.folder_name("a==1 --hash=sha256:0", build_peer.defines(PLANS[-1]), {}),
        build_peer.folder_name("a==1 --hash=sha256:0", plain, {"CMAKE_ARGS": "-DGGML_CUDA=ON"}),
    }
    assert len(names) == 4


def test_both_ways_to_give_arguments_to_the_bindings_build_are_heard() -> None:
    environ = {"CMAKE_ARGS": "-DA=1 '-DB=2 3'", "SKBUILD_CMAKE_ARGS": "-DC=4;-DD=5 6"}
    assert build_peer.extra_arguments(environ) == ["-DA=1", "-DB=2 3", "-DC=4", "-DD=5 6"]
    assert build_peer.extra_arguments({}) == []
