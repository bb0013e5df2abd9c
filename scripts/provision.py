"""Fills .venv: the locked packages, llama.cpp compiled for this machine and tested, and this project.

Started by scripts/setup with the environment's own interpreter, so it uses the standard library alone. A stamp says
what the environment was made from; while that is unchanged, nothing happens and nothing is asked of the network.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import build_llama
import host_probe
from build_progress import Progress

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements" / "dev.txt"
SELFTEST = ROOT / "adapters/sessiond/adapters/llama_cpp/selftest.py"

STAMP = VENV / "sessiond-stamp"
"""Line 1: the checkout this environment belongs to (scripts/setup reads it). Line 2: what it was made from."""
BUILD_RECORD = VENV / "sessiond-build.json"
BUILD_LOG = VENV / "sessiond-build.log"

STAMPED_FILES = [
    LOCK,
    ROOT / "pyproject.toml",
    SELFTEST,
    *(
        ROOT / "scripts" / name
        for name in ("provision.py", "build_llama.py", "host_probe.py", "skip_llama_common.cmake")
    ),
]

SELFTEST_SECONDS = 180
UNTESTABLE = 2
"""The self-test's exit status where it says nothing about the build."""

LOG_LINES_SHOWN = 60


class SetupError(Exception):
    """The environment cannot be made. The message is for the person who reads it."""


def stamp() -> str:
    """A digest of everything that the environment depends on, without starting a program."""
    digest = hashlib.sha256()
    for path in STAMPED_FILES:
        digest.update(path.read_bytes() + b"\0")
    facts = {
        "python": sys.version,
        "cpu": sorted(host_probe.cpu_features()),
        "environment": {n: os.environ[n] for n in build_llama.BUILD_VARIABLES if os.environ.get(n)},
    }
    digest.update(json.dumps(facts, sort_keys=True).encode())
    return f"{ROOT}\n{digest.hexdigest()}\n"


def main() -> int:
    wanted = stamp()
    if _read(STAMP) == wanted:
        return 0
    with (VENV / "sessiond-setup.lock").open("w") as lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)  # a second setup waits, and then finds the stamp
        if _read(STAMP) == wanted:
            return 0
        STAMP.unlink(missing_ok=True)
        try:
            provide_uv()
            install_locked()
            install_project()
        except (SetupError, host_probe.NoCompilerError) as error:
            print(f"setup: {error}", file=sys.stderr)
            return 1
        STAMP.write_text(wanted)
    print("setup: ready")
    return 0


def provide_uv() -> None:
    """Install uv as the lock has it, hashes checked, by the pip that came with the environment."""
    requirement = locked_requirement("uv")
    version = requirement.split()[0].removeprefix("uv==")
    uv = VENV / "bin" / "uv"
    if uv.exists() and version in _run([str(uv), "--version"]).stdout.split():
        return
    print(f"setup: installing uv {version}")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(requirement)
        file.flush()
        command = ["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", file.name]
        done = _run([sys.executable, *command])
    if done.returncode != 0:
        raise SetupError(f"pip cannot install uv:\n{done.stderr.strip()}")


def locked_requirement(name: str) -> str:
    """The lock's entry for this package, with its hashes, as a requirements file of its own."""
    found = re.search(rf"^{re.escape(name)}==(?:.*\\\n)*.*\n", LOCK.read_text(), re.MULTILINE)
    if not found:
        raise SetupError(f"{LOCK.relative_to(ROOT)} has no {name}")
    return found[0]


def install_locked() -> None:
    """Install all locked packages, and step down the ladder of builds until one of them is sound.

    Raises:
        SetupError: an installation failed, or no build is sound.
        NoCompilerError: there is nothing to compile with.
    """
    host = host_probe.probe()
    ladder = build_llama.plans(host, os.environ, shared_copy(ROOT / "scripts" / "skip_llama_common.cmake"))
    start = proven_step(ladder)
    for number, plan in enumerate(ladder[start:]):
        if number:
            print("setup: that build is at fault here; making a more careful one")
        if not is_recorded(plan):
            print(f"setup: llama.cpp is built by {plan.why}")
            print("setup: it is compiled on the first run, which takes about four minutes on two cores")
            drop_llama()
        install(plan)
        fault = selftest_fault()
        BUILD_RECORD.write_text(json.dumps(record(plan, fault), indent=2) + "\n")
        if fault is None:
            return
        print(f"setup: the self-test of this build failed: {fault}", file=sys.stderr)
        drop_llama()
    raise SetupError(
        f"no build of llama.cpp passes its self-test on this machine; the last log is {BUILD_LOG}"
    )


def record(plan: build_llama.Plan, fault: str | None) -> dict[str, object]:
    return {"plan": plan.name, "why": plan.why, "defines": dict(plan.defines), "fault": fault}


def is_recorded(plan: build_llama.Plan) -> bool:
    """Whether the installed build was made by exactly this plan and passed."""
    try:
        return bool(json.loads(_read(BUILD_RECORD)) == record(plan, None))
    except ValueError:
        return False


def proven_step(ladder: Sequence[build_llama.Plan]) -> int:
    """The step to begin with: the one that passed here before, else the first."""
    return next((number for number, plan in enumerate(ladder) if is_recorded(plan)), 0)


def shared_copy(path: Path) -> Path:
    """A copy at a place that is the same for all checkouts: its path is part of the settings that uv keys wheels by."""
    content = path.read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    copy = cache / "sessiond" / "build" / hashlib.sha256(content).hexdigest()[:16] / path.name
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        partial = copy.with_suffix(f".{os.getpid()}")
        partial.write_bytes(content)
        partial.replace(copy)
    return copy


def drop_llama() -> None:
    """Uninstall the bindings, so that the next installation takes the build that its settings ask for."""
    _run([*uv_pip("uninstall"), build_llama.PACKAGE])


def install(plan: build_llama.Plan) -> None:
    """Bring the environment to the lock; compile what has no wheel. The whole output goes to the build log."""
    command = [
        *uv_pip("sync"),
        "--verbose",
        "--compile-bytecode",
        "--require-hashes",
        *plan.config_settings(),
        str(LOCK),
    ]
    progress = Progress("setup: llama.cpp")
    tail: deque[str] = deque(maxlen=LOG_LINES_SHOWN)
    with (
        BUILD_LOG.open("w") as log,
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process,
    ):
        assert process.stdout is not None
        ended = threading.Event()
        ticker = threading.Thread(target=_tick, args=(progress, ended), daemon=True)
        ticker.start()
        for line in process.stdout:
            log.write(line)
            tail.append(line.removeprefix("DEBUG ")[:400])
            progress.feed(line)
        status = process.wait()
        ended.set()
        ticker.join()
    progress.close()
    if status != 0:
        raise SetupError(f"uv failed ({status}). The end of {BUILD_LOG}:\n{''.join(tail)}")


def _tick(progress: Progress, ended: threading.Event) -> None:
    while not ended.wait(1.0):
        progress.show()


def selftest_fault() -> str | None:
    """What is wrong with the installed build, or None. In a process of its own: faults kill it.

    Raises:
        SetupError: it could not be tested.
    """
    try:
        done = _run([sys.executable, "-P", str(SELFTEST)], timeout=SELFTEST_SECONDS)
    except subprocess.TimeoutExpired:
        return f"no end after {SELFTEST_SECONDS} s"
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0:
        verdict = json.loads(lines[-1])
        print(
            f"setup: the build passed its self-test ({verdict['prefill_tokens']} tokens in"
            f" {verdict['prefill_ms']} ms, then {verdict['decode_ms_per_token']} ms a token)"
        )
        return None
    if done.returncode == UNTESTABLE:
        raise SetupError(f"the build cannot be tested: {lines[-1] if lines else done.stderr}")
    if done.returncode < 0:
        return f"it died of {signal.Signals(-done.returncode).name}"
    return lines[-1] if lines else done.stderr.strip()[-400:]


def install_project() -> None:
    """This project, editable. Its build tools are in the lock, so this needs no network."""
    done = _run(
        [*uv_pip("install"), "--no-deps", "--no-build-isolation", "--offline", "--editable", str(ROOT)]
    )
    if done.returncode != 0:
        raise SetupError(f"this project cannot be installed:\n{done.stderr.strip()}")


def uv_pip(command: str) -> list[str]:
    return [str(VENV / "bin" / "uv"), "pip", command, "--python", sys.executable]


def _run(command: Sequence[str], timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
