"""Builds llama-server from the source and with the flags of this project's own llama.cpp, and prints where it lies.

Started by scripts/peer. It is what `scripts/compare.py` measures against: the same source, compiler and flags, so that
what differs is the program. It goes into the user's cache, `sessiond/peers/<version>-<digest of all settings>`, and a
run that finds it there only prints its path.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import platformdirs

import build_llama
import host_probe
import provision
from build_progress import Progress

PROGRAM = "llama-server"

# How the bindings' build differs from llama.cpp's own: what it leaves out is what a server needs.
BINDINGS_ONLY = (*build_llama.UNUSED_PARTS, build_llama.SKIP_COMMON)

SERVER_PARTS = {
    "CMAKE_BUILD_TYPE": "Release",  # what the bindings' build backend asks for
    "BUILD_SHARED_LIBS": "ON",  # as the bindings force it
    "CMAKE_BUILD_RPATH_USE_ORIGIN": "ON",  # the programs are moved when they are ready
    "LLAMA_BUILD_COMMON": "ON",
    "LLAMA_BUILD_TOOLS": "ON",
    "LLAMA_BUILD_SERVER": "ON",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    # Each of these would ask the network for a web page, or link what a local socket does not need.
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_OPENSSL": "OFF",
}

BUILD_TOOLS = ("cmake", "ninja")
LOG_LINES_SHOWN = 40


class PeerError(Exception):
    """The server cannot be built. The message is for the person who reads it."""


FAULTS = (PeerError, provision.SetupError, host_probe.NoCompilerError)
"""All that `peer` may raise."""


def defines(plan: build_llama.Plan) -> dict[str, str]:
    """The CMake definitions of llama-server: those of the plan, with the parts that a server has."""
    kept = {name: value for name, value in plan.defines.items() if name not in BINDINGS_ONLY}
    return kept | SERVER_PARTS


def folder_name(requirement: str, defined: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """The version, and a digest of all that the binary depends on: source, definitions and flags."""
    version = requirement.split(maxsplit=1)[0].partition("==")[2]
    facts = [requirement, sorted(defined.items()), extra_arguments(environ)]
    return f"{version}-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}"


def extra_arguments(environ: Mapping[str, str]) -> list[str]:
    """What the environment adds to the configuration of the bindings' build, and so to this one's."""
    listed = environ.get("SKBUILD_CMAKE_ARGS", "").split(";")
    return [*shlex.split(environ.get("CMAKE_ARGS", "")), *(argument for argument in listed if argument)]


def peer() -> Path:
    """The path of a llama-server like our own llama.cpp; built if it is not there.

    Raises one of FAULTS if it cannot be built.
    """
    requirement = provision.locked_requirement(build_llama.PACKAGE)
    hook = provision.shared_copy(provision.ROOT / "scripts" / "skip_llama_common.cmake")
    ladder = build_llama.plans(host_probe.probe(), os.environ, hook)
    plan = ladder[provision.proven_step(ladder)]
    defined = defines(plan)
    peers = platformdirs.user_cache_path("sessiond") / "peers"
    folder = peers / folder_name(requirement, defined, os.environ)
    program = folder / "bin" / PROGRAM
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock_file:
            fcntl.flock(lock_file, fcntl.LOCK_EX)  # a second build waits, and then finds the program
            if not program.exists():
                _say(f"{PROGRAM} is built by {plan.why}")
                _build(folder, requirement, defined)
    return program


def _build(folder: Path, requirement: str, defined: Mapping[str, str]) -> None:
    """Fetch, configure, compile, and move the programs in place. An interrupted compilation goes on where it was."""
    source, build, log = folder / "source", folder / "build", folder / "build.log"
    if not source.exists():
        fetch_source(requirement, source)
    tools = {name: _tool(name, folder / "tools") for name in BUILD_TOOLS}
    configure = [tools["cmake"], "-S", str(source), "-B", str(build), "-G", "Ninja"]
    configure += [f"-DCMAKE_MAKE_PROGRAM={tools['ninja']}"]
    configure += [f"-D{name}={value}" for name, value in sorted(defined.items())]
    log.unlink(missing_ok=True)
    _run([*configure, *extra_arguments(os.environ)], log, Progress("peer: configuring", sys.stderr))
    compile_it = [tools["cmake"], "--build", str(build), "--target", PROGRAM]
    _run(compile_it, log, Progress(f"peer: {PROGRAM}", sys.stderr))
    (build / "bin").rename(folder / "bin")
    for spent in (source, build, folder / "tools"):
        shutil.rmtree(spent, ignore_errors=True)


def fetch_source(requirement: str, source: Path) -> None:
    """Put llama.cpp there as it lies in the source distribution of the locked bindings, whose hash is checked.

    Raises PeerError if it cannot be fetched.
    """
    _say("fetching the source distribution of the locked bindings")
    with tempfile.TemporaryDirectory(dir=source.parent) as temporary:
        listed = Path(temporary, "requirement.txt")
        listed.write_text(requirement)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        command += ["--no-binary", build_llama.PACKAGE, "--dest", temporary, "--requirement", str(listed)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PeerError(f"pip cannot fetch the source:\n{done.stderr.strip()}")
        [archive] = Path(temporary).glob("*.tar.gz")
        shutil.unpack_archive(archive, temporary)
        [inside] = Path(temporary).glob("*/vendor/llama.cpp")
        inside.rename(source)


def _tool(name: str, folder: Path) -> str:
    """A build tool: the machine's own, else one from the package index, as the bindings' build would get it."""
    found = shutil.which(name)
    if found:
        return found
    installed = folder / "bin" / name
    if not installed.exists():
        _say(f"installing {name}")
        python = folder / "bin" / "python"
        steps = [] if python.exists() else [[sys.executable, "-m", "venv", str(folder)]]
        for step in [*steps, [str(python), "-m", "pip", "install", "--quiet", name]]:
            done = subprocess.run(step, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise PeerError(f"{name} is not there and cannot be installed:\n{done.stderr.strip()}")
    return str(installed)


def _run(command: Sequence[str], log: Path, progress: Progress) -> None:
    """Run one step of the build. Its output goes to the log; a bar or a line now and then to standard error."""
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(1.0):
            progress.show()

    ticker = threading.Thread(target=tick, daemon=True)
    with (
        log.open("a") as kept,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process,
    ):
        assert process.stdout is not None
        ticker.start()
        for line in process.stdout:
            kept.write(line)
            progress.feed(line)
        status = process.wait()
        ended.set()
        ticker.join()
    progress.close()
    if status != 0:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])
        raise PeerError(f"the build failed ({status}). The end of {log}:\n{last}")


def _say(what: str) -> None:
    print(f"peer: {what}", file=sys.stderr, flush=True)


def main() -> int:
    try:
        print(peer())
    except FAULTS as error:
        _say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
