"""How llama.cpp is to be compiled on a given machine: the plans, best first, as pure functions.

The build is made for the very CPU that runs it (-march=native): its matrix kernels are worth a factor of two to
three. Compilers get some of these kernels wrong, so each build has to pass a self-test, and a plan that fails
gives way to a more careful one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from host_probe import Compiler, Host

PACKAGE = "llama-cpp-python"

# GCC 12 drops the stores that fill the AMX tile configuration, which is then loaded from memory by `ldtilecfg`: the
# first decode dies of SIGSEGV. Without these three passes it is sound, and as fast as clang's. They cost nothing
# measurable on other CPUs, so no version and no CPU is singled out.
GCC_SAFE_FLAGS = ("-fno-tree-sra", "-fno-tree-dse", "-fno-dse")

NO_AMX_FLAGS = ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16")

# What would be compiled beside the libraries that the bindings load.
UNUSED_PARTS = {"LLAVA_BUILD": "OFF", "LLAMA_BUILD_TOOLS": "OFF"}

# The definition that has CMake read skip_llama_common.cmake (its comment says why) at the right moment.
SKIP_COMMON = "CMAKE_PROJECT_llama.cpp_INCLUDE"

# ggml's switch for each instruction set of a build that is not native, with the kernel's word for it.
PORTABLE_SETS = {
    "GGML_SSE42": "sse4_2",
    "GGML_AVX": "avx",
    "GGML_AVX2": "avx2",
    "GGML_FMA": "fma",
    "GGML_F16C": "f16c",
    "GGML_BMI2": "bmi2",
}

# Environment variables that change what a build yields, and so belong to its key.
BUILD_VARIABLES = (
    "CC",
    "CXX",
    "CFLAGS",
    "CXXFLAGS",
    "LDFLAGS",
    "CMAKE_ARGS",
    "CMAKE_GENERATOR",
    "SKBUILD_CMAKE_ARGS",
)


@dataclass(frozen=True)
class Plan:
    """One way to compile llama.cpp."""

    name: str
    """"native", "native-without-amx" or "portable"."""
    why: str
    """The choice, as a sentence for the person who waits."""
    defines: Mapping[str, str]
    """CMake definitions, all of them: two builds with equal ones are interchangeable."""

    def config_settings(self) -> list[str]:
        """The arguments that hand the definitions to uv, for this package alone."""
        return [
            f"--config-settings-package={PACKAGE}:cmake.define.{k}={v}"
            for k, v in sorted(self.defines.items())
        ]


def plans(host: Host, environ: Mapping[str, str], skip_common: Path) -> list[Plan]:
    """The ladder for this machine: the fastest build first, each next one with less to go wrong.

    Args:
        host: the machine that compiles and runs.
        environ: the environment of the build.
        skip_common: where skip_llama_common.cmake lies; the same place for every checkout, as it is part of the
            settings.
    """
    safe = GCC_SAFE_FLAGS if host.compiler.family == "gcc" and host.is_x86 else ()
    base = {
        **UNUSED_PARTS,
        SKIP_COMMON: str(skip_common),
        "SESSIOND_BUILD_KEY": build_key(host, environ),
        **_compiler_defines(host.compiler),
    }
    # Said outright: ggml's own default turns to OFF where an environment asks for reproducible builds.
    native = {**base, "GGML_NATIVE": "ON"}
    portable = {**base, "GGML_NATIVE": "OFF"}
    if host.is_x86:
        portable |= {switch: _switch(name in host.cpu_features) for switch, name in PORTABLE_SETS.items()}

    amx = ", AMX among them" if host.has_amx else ""
    care = f", with {' '.join(safe)} against its faults in the AMX kernels" if safe else ""
    ladder = [
        Plan(
            "native",
            f"{host.compiler} for this CPU's own instructions{amx}{care}",
            native | _flags(environ, c=(), cxx=safe),
        )
    ]
    if host.has_amx:
        ladder.append(
            Plan(
                "native-without-amx",
                f"{host.compiler} for this CPU's own instructions, but without AMX",
                native | _flags(environ, c=NO_AMX_FLAGS, cxx=(*safe, *NO_AMX_FLAGS)),
            )
        )
    ladder.append(
        Plan(
            "portable",
            f"{host.compiler} for widely available instructions only (slower)",
            portable | _flags(environ, c=(), cxx=safe),
        )
    )
    return ladder


def _switch(on: bool) -> str:
    return "ON" if on else "OFF"


def _flags(environ: Mapping[str, str], *, c: tuple[str, ...], cxx: tuple[str, ...]) -> dict[str, str]:
    """Compiler flags as definitions. A definition hides CFLAGS and CXXFLAGS from CMake, so these go in front."""
    defines: dict[str, str] = {}
    if c:
        defines["CMAKE_C_FLAGS"] = " ".join([*environ.get("CFLAGS", "").split(), *c])
    if cxx:
        defines["CMAKE_CXX_FLAGS"] = " ".join([*environ.get("CXXFLAGS", "").split(), *cxx])
    return defines


def _compiler_defines(compiler: Compiler) -> dict[str, str]:
    """CMake gets the very compilers that were tried; those of CC and CXX it reads by itself, arguments included."""
    if compiler.from_environment:
        return {}
    return {"CMAKE_C_COMPILER": compiler.c[0], "CMAKE_CXX_COMPILER": compiler.cxx[0]}


def build_key(host: Host, environ: Mapping[str, str]) -> str:
    """A digest of what decides the machine code but shows in no other definition.

    uv hands back a wheel that it once built with the same settings. A native build for another CPU must not come
    back that way, so the CPU, the compiler and the environment's flags become a setting (CMake ignores it).
    """
    facts = {
        "machine": host.machine,
        "cpu": sorted(host.cpu_features),
        "compiler": [*host.compiler.cxx, host.compiler.family, *host.compiler.version],
        "environment": {name: environ[name] for name in BUILD_VARIABLES if environ.get(name)},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
