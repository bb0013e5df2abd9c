"""What the build learns about compilers and the CPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import host_probe

GCC_MACROS = "#define __GNUC__ 12\n#define __GNUC_MINOR__ 2\n#define __x86_64__ 1\n"
CLANG_MACROS = GCC_MACROS + "#define __clang__ 1\n#define __clang_major__ 16\n#define __clang_minor__ 0\n"


@pytest.mark.parametrize(
    ("macros", "expected"),
    [(GCC_MACROS, ("gcc", (12, 2))), (CLANG_MACROS, ("clang", (16, 0))), ("", ("unknown", (0, 0)))],
)
def test_a_compiler_is_known_by_its_macros(macros: str, expected: tuple[str, tuple[int, int]]) -> None:
    assert host_probe.identify(macros) == expected


@pytest.mark.parametrize(
    ("line", "feature"),
    [
        ("flags\t\t: fpu avx2 amx_tile", "amx_tile"),
        ("Features\t: fp asimd", "asimd"),
        ("isa\t: rv64imafdcv", "rv64imafdcv"),
    ],
)
def test_features_are_read_on_each_architecture(line: str, feature: str) -> None:
    assert feature in host_probe.features_of_cpuinfo(f"processor\t: 0\n{line}\nbogomips\t: 1\n")


def test_a_named_compiler_that_fails_is_not_replaced_in_silence() -> None:
    with pytest.raises(host_probe.NoCompilerError, match="no-such-compiler"):
        host_probe.find_compiler({"CC": "no-such-compiler", "CXX": "no-such-compiler"})


def test_a_compiler_that_only_pretends_is_refused(tmp_path: Path) -> None:
    pretender = tmp_path / "c++"
    pretender.write_text(
        f"#!{sys.executable}\nprint('#define __GNUC__ 12')\n"
    )  # succeeds, and builds nothing
    pretender.chmod(0o755)
    assert host_probe.try_compiler([str(pretender)], [str(pretender)], from_environment=False) is None


def test_this_machine_can_be_probed() -> None:
    host = host_probe.probe()
    assert host.compiler.family in {"gcc", "clang"}
    assert host.system in {"Linux", "Darwin"}
