"""How llama.cpp is to be compiled on machines that are not this one."""

from __future__ import annotations

from pathlib import Path

import pytest

import build_llama
from host_probe import Compiler, Host

HOOK = Path("/cache/skip_llama_common.cmake")
AMX_CPU = frozenset("sse4_2 avx avx2 fma f16c bmi2 avx512f avx512_vnni amx_tile amx_int8 amx_bf16".split())
AVX512_CPU = frozenset("sse4_2 avx avx2 fma f16c bmi2 avx512f avx512_vnni".split())
OLD_CPU = frozenset("sse4_2 avx".split())
ARM_CPU = frozenset("fp asimd asimddp i8mm".split())


def host(
    family: str,
    version: tuple[int, int],
    features: frozenset[str],
    *,
    system: str = "Linux",
    machine: str = "x86_64",
    from_environment: bool = False,
) -> Host:
    compiler = Compiler(("/usr/bin/cc",), ("/usr/bin/c++",), family, version, from_environment)
    return Host(system, machine, features, compiler)


GCC12_AMX = host("gcc", (12, 2), AMX_CPU)
GCC13_AVX512 = host("gcc", (13, 1), AVX512_CPU)
CLANG16_AMX = host("clang", (16, 0), AMX_CPU)
MAC = host("clang", (17, 0), frozenset(), system="Darwin", machine="arm64")
GCC_ARM = host("gcc", (12, 2), ARM_CPU, machine="aarch64")

LADDERS = [
    (GCC12_AMX, ["native", "native-without-amx", "portable"]),
    (GCC13_AVX512, ["native", "portable"]),
    (CLANG16_AMX, ["native", "native-without-amx", "portable"]),
    (MAC, ["native", "portable"]),
    (GCC_ARM, ["native", "portable"]),
]


def flags_of(plan: build_llama.Plan, name: str = "CMAKE_CXX_FLAGS") -> list[str]:
    return plan.defines.get(name, "").split()


@pytest.mark.parametrize(("machine", "names"), LADDERS)
def test_the_ladder_goes_from_fast_to_careful(machine: Host, names: list[str]) -> None:
    assert [plan.name for plan in build_llama.plans(machine, {}, HOOK)] == names


@pytest.mark.parametrize("machine", [GCC12_AMX, GCC13_AVX512])
def test_gcc_on_x86_never_builds_without_the_safe_flags(machine: Host) -> None:
    for plan in build_llama.plans(machine, {}, HOOK):
        assert set(build_llama.GCC_SAFE_FLAGS) <= set(flags_of(plan))


@pytest.mark.parametrize("machine", [CLANG16_AMX, MAC, GCC_ARM])
def test_other_compilers_and_cpus_get_no_flags_for_the_first_plan(machine: Host) -> None:
    first = build_llama.plans(machine, {}, HOOK)[0]
    assert not flags_of(first)
    assert not flags_of(first, "CMAKE_C_FLAGS")


@pytest.mark.parametrize("machine", [GCC12_AMX, CLANG16_AMX])
def test_the_second_step_turns_amx_off_for_both_languages(machine: Host) -> None:
    second = build_llama.plans(machine, {}, HOOK)[1]
    assert set(build_llama.NO_AMX_FLAGS) <= set(flags_of(second))
    assert set(build_llama.NO_AMX_FLAGS) <= set(flags_of(second, "CMAKE_C_FLAGS"))
    assert second.defines["GGML_NATIVE"] == "ON"


def test_the_last_step_uses_only_what_this_cpu_has() -> None:
    last = build_llama.plans(host("gcc", (12, 2), OLD_CPU), {}, HOOK)[-1]
    assert last.defines["GGML_NATIVE"] == "OFF"
    assert last.defines["GGML_AVX"] == "ON"
    assert last.defines["GGML_AVX2"] == "OFF"


def test_the_last_step_on_arm_names_no_x86_instructions() -> None:
    last = build_llama.plans(MAC, {}, HOOK)[-1]
    assert not build_llama.PORTABLE_SETS.keys() & last.defines.keys()


def test_the_flags_of_the_environment_stay_in_force() -> None:
    plan = build_llama.plans(GCC13_AVX512, {"CXXFLAGS": "-O2 -g"}, HOOK)[0]
    assert flags_of(plan)[:2] == ["-O2", "-g"]


def test_named_compilers_are_left_to_cmake() -> None:
    named = host("gcc", (12, 2), AVX512_CPU, from_environment=True)
    assert "CMAKE_CXX_COMPILER" not in build_llama.plans(named, {"CC": "ccache gcc"}, HOOK)[0].defines
    assert build_llama.plans(GCC13_AVX512, {}, HOOK)[0].defines["CMAKE_CXX_COMPILER"] == "/usr/bin/c++"


@pytest.mark.parametrize(
    ("other", "environ"),
    [
        (host("gcc", (12, 2), AVX512_CPU), {}),
        (host("gcc", (12, 3), AMX_CPU), {}),
        (GCC12_AMX, {"CMAKE_ARGS": "-DGGML_CUDA=ON"}),
    ],
    ids=["another CPU", "another compiler", "another environment"],
)
def test_a_wheel_of_other_circumstances_is_not_handed_back(other: Host, environ: dict[str, str]) -> None:
    assert build_llama.build_key(other, environ) != build_llama.build_key(GCC12_AMX, {})


def test_settings_reach_uv_whole() -> None:
    settings = build_llama.plans(GCC12_AMX, {}, HOOK)[0].config_settings()
    assert (
        "--config-settings-package=llama-cpp-python:cmake.define.CMAKE_CXX_FLAGS=-fno-tree-sra -fno-tree-dse -fno-dse"
        in settings
    )
    assert (
        f"--config-settings-package=llama-cpp-python:cmake.define.CMAKE_PROJECT_llama.cpp_INCLUDE={HOOK}"
        in settings
    )
