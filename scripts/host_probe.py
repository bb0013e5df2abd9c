"""What this machine is: its compilers and its CPU. Only looks; `build_llama` decides.

Compilers are judged by what they do, not by their names: `cc` is clang on one machine and GCC on the next, and a
compiler without its C++ library is common in slim images.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CANDIDATES = (("cc", "c++"), ("gcc", "g++"), ("clang", "clang++"))

# C++17 with the library's containers and a thread: what llama.cpp needs of a toolchain, in one program.
TRIAL_PROGRAM = """
#include <filesystem>
#include <thread>
#include <vector>
int main() {
    std::vector<int> v{1, 2, 3};
    std::thread t([&] { v.push_back(4); });
    t.join();
    return v.size() == 4 && !std::filesystem::path("x").empty() ? 0 : 1;
}
"""


class NoCompilerError(Exception):
    """No C and C++ compiler that works. The message names what was tried and what to install."""


@dataclass(frozen=True)
class Compiler:
    """A C and C++ compiler that built and ran a program."""

    c: tuple[str, ...]
    """The command of the C compiler, with the arguments that its environment variable gave."""
    cxx: tuple[str, ...]
    family: str
    """"gcc" or "clang", by the macros it defines."""
    version: tuple[int, int]
    from_environment: bool
    """True where CC and CXX named it: CMake then finds it by itself."""

    def __str__(self) -> str:
        return f"{self.family} {self.version[0]}.{self.version[1]}"


@dataclass(frozen=True)
class Host:
    """All that a build plan depends on."""

    system: str
    """As `platform.system()` says it: "Linux", "Darwin"."""
    machine: str
    """As `platform.machine()` says it: "x86_64", "aarch64", "arm64"."""
    cpu_features: frozenset[str]
    """Instruction sets, in the kernel's words; empty where they cannot be read."""
    compiler: Compiler

    @property
    def is_x86(self) -> bool:
        return self.machine.lower() in {"x86_64", "amd64"}

    @property
    def has_amx(self) -> bool:
        return self.is_x86 and any(feature.startswith("amx") for feature in self.cpu_features)


def probe(environ: Mapping[str, str] = os.environ) -> Host:
    """Look at this machine.

    Raises:
        NoCompilerError: no compiler could build and run a C++ program.
    """
    return Host(platform.system(), platform.machine(), cpu_features(), find_compiler(environ))


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The CPU's instruction sets. Reads one file on Linux; asks sysctl on macOS."""
    if cpuinfo.exists():
        return features_of_cpuinfo(cpuinfo.read_text(errors="replace"))
    if shutil.which("sysctl"):
        asked = [
            "sysctl",
            "-n",
            "machdep.cpu.brand_string",
            "machdep.cpu.features",
            "machdep.cpu.leaf7_features",
        ]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
        return frozenset(answer.lower().split())
    return frozenset()


def features_of_cpuinfo(text: str) -> frozenset[str]:
    """The first CPU's feature line: `flags` on x86, `Features` on ARM, `isa` on RISC-V."""
    found = re.search(r"^(?:flags|Features|isa)\s*:\s*(.+)$", text, re.MULTILINE)
    return frozenset(found.group(1).split()) if found else frozenset()


def find_compiler(environ: Mapping[str, str]) -> Compiler:
    """The compiler that CC and CXX name, else the first usual pair that works.

    Raises:
        NoCompilerError: none works. A named one that fails is not replaced by another in silence.
    """
    if environ.get("CC") or environ.get("CXX"):
        named = shlex.split(environ.get("CC", "cc")), shlex.split(environ.get("CXX", "c++"))
        compiler = try_compiler(*named, from_environment=True)
        if compiler is None:
            raise NoCompilerError(
                f"CC and CXX name {named[0]} and {named[1]}, which cannot build and run a C++ program."
            )
        return compiler
    for c, cxx in CANDIDATES:
        c_path, cxx_path = shutil.which(c), shutil.which(cxx)
        if c_path and cxx_path and (compiler := try_compiler([c_path], [cxx_path], from_environment=False)):
            return compiler
    tried = ", ".join(f"{c} with {cxx}" for c, cxx in CANDIDATES)
    raise NoCompilerError(
        f"No C and C++ compiler works here (tried: {tried}). llama.cpp is compiled from source: install one"
        " (Debian, Ubuntu: build-essential; Fedora: gcc-c++; macOS: xcode-select --install)."
    )


def try_compiler(c: Sequence[str], cxx: Sequence[str], *, from_environment: bool) -> Compiler | None:
    """What this pair is, or None where it cannot build and run a program."""
    macros = _output([*c, "-dM", "-E", "-x", "c", os.devnull])
    if macros is None or _output([*cxx, "-dM", "-E", "-x", "c++", os.devnull]) is None:
        return None
    with tempfile.TemporaryDirectory(prefix="sessiond-compiler-") as folder:
        source, program = Path(folder, "trial.cpp"), Path(folder, "trial")
        source.write_text(TRIAL_PROGRAM)
        if _output([*cxx, "-std=c++17", "-pthread", "-o", str(program), str(source)]) is None:
            return None
        if _output([str(program)]) is None:
            return None
    family, version = identify(macros)
    return Compiler(tuple(c), tuple(cxx), family, version, from_environment)


def identify(macros: str) -> tuple[str, tuple[int, int]]:
    """Family and version from the macros that a compiler predefines. Clang defines GCC's macros too, so it goes first."""
    defined = dict(re.findall(r"^#define (\w+) (.*)$", macros, re.MULTILINE))
    if "__clang__" in defined:
        return "clang", (int(defined["__clang_major__"]), int(defined["__clang_minor__"]))
    if "__GNUC__" in defined:
        return "gcc", (int(defined["__GNUC__"]), int(defined["__GNUC_MINOR__"]))
    return "unknown", (0, 0)


def _output(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
