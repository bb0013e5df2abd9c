"""The server example of llama-cpp-python: OpenAI's interface over one context, one request at a time.

What it needs beside the bindings is installed into the user's cache, once, with the bindings themselves taken from our own
environment. Where that cannot be done, nothing of it is measured, and the rows say why.

It takes texts, not tokens, and tells no counts while it streams: a token that spans two files may be another one here.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import platformdirs

from benchmark.llama_server import ANSWER_SECONDS
from benchmark.peer_server import cache_mib
from benchmark.process import Program
from benchmark.sides import Role, Runtime, Work, assignments
from benchmark.texts import Piece
from benchmark.took import NotMeasured, Took
from benchmark.unix_http import Address, ServerError
from benchmark.versions import Version

NEEDS = ("fastapi", "sse-starlette", "starlette-context", "uvicorn")
"""What the bindings' extra `server` adds, and our environment does not have."""
_PROBE = "import fastapi, sse_starlette, starlette_context, uvicorn, llama_cpp.server.app"
_INSTALL_SECONDS = 300.0
CACHED_BATCH = 512
"""Tokens of a batch where it has its cache: each entry is a copy of the logits of a whole batch, too. A micro-batch is no
larger in any case.
"""
CACHE_SHARE = 8
"""Of the memory for its cache, it is told one part in so many: it counts the states alone, and the logits are several
times as large (SmolLM2 at 1,000 tokens: 100 MB beside 23). Told all of it, it was seen to take 16 GB of 24.
"""
_PIECES = 0.9
"""Of the tokens that were asked for, the pieces that have to come for a speed to be told."""


class PythonServer:
    """`cached`: with its cache of states in memory, logits of last tokens alone and threads laid out; else as it comes."""

    role: Role = "peer"

    def __init__(self, folder: Path, *, cached: bool) -> None:
        self.name = "llama-cpp-python cached" if cached else "llama-cpp-python"
        self._folder, self._cached = folder, cached
        self._runtime: Runtime | None = None
        self._program: Program | None = None
        self._address = Address()
        self._extras: Path | None = None
        self._arguments: Sequence[str] = ()
        self._environ: Mapping[str, str] = {}
        self.flags: Sequence[str] = ()

    def like(self, runtime: Runtime) -> None:
        """Run the model like this from the next `begin` on."""
        self._runtime = runtime

    def begin(self, work: Work) -> None:
        """See Side. Raises NotMeasured if it cannot be installed or does not start."""
        if self._runtime is None:
            raise NotMeasured("it is not known how the model runs")
        self._extras = self._extras or extras()
        self._arguments = self._told(self._runtime, work)
        self._environ = self._runtime.environ if self._cached else {}
        self.flags = [*assignments(self._environ), *self._arguments]
        self._start()

    def save(self, version: Version) -> None:
        """See Side. It knows nothing of files."""

    def think(self) -> float:
        """See Side. Nothing happens then."""
        return 0.0

    def restart(self) -> None:
        """See Side."""
        self._start()

    def turn(self, client: int, version: Version, suffix: Piece, answer: int) -> Took:
        """See Side."""
        asked: dict[str, object] = {
            "prompt": version.text + suffix.text,
            "max_tokens": answer,
            "temperature": 0.0,
            "stream": True,
        }
        body = json.dumps(asked).encode()
        begun, stamps = time.perf_counter(), list[float]()
        try:
            for event in self._address.events("/v1/completions", body, ANSWER_SECONDS):
                if event["choices"][0].get("text"):
                    stamps.append(time.perf_counter())
        except (ServerError, KeyError, IndexError, TypeError, ValueError) as error:
            raise NotMeasured(f"{error}") from error
        if not stamps:
            raise NotMeasured("it answered without a text")
        # It tells pieces of text: where they are far fewer than tokens were asked for, they say nothing of its speed.
        enough = len(stamps) > 1 and len(stamps) >= answer * _PIECES
        each = (stamps[-1] - stamps[0]) * 1e3 / (len(stamps) - 1) if enough else 0.0
        return Took(first_token_ms=(stamps[0] - begun) * 1e3, token_ms=each)

    def together(self, version: Version, suffixes: Sequence[Piece], answer: int) -> Took:
        """See Side."""
        raise NotMeasured("it answers one request at a time, and breaks off the one before")

    def rest(self) -> None:
        """See Side. It never does anything by itself."""

    def keep(self) -> None:
        """See Side. Its cache keeps every prompt."""

    def close(self) -> None:
        """See Side."""
        if self._program is not None:
            self._program.close()
            self._program = None

    def _told(self, runtime: Runtime, work: Work) -> list[str]:
        # Its own window, of 2,048 tokens, would refuse most of the prompts.
        told = ["--n_ctx", str(work.window), "--n_threads", str(runtime.threads)]
        told += ["--n_threads_batch", str(runtime.threads_batch)]
        if runtime.gpu_layers is not None:
            told += ["--n_gpu_layers", str(runtime.gpu_layers)]
        if self._cached:
            told += ["--logits_all", "false", "--n_batch", str(min(CACHED_BATCH, runtime.num_batch))]
            told += ["--flash_attn", str(runtime.flash_attn).lower()]
            size = (cache_mib() << 20) // CACHE_SHARE
            told += ["--cache", "true", "--cache_type", "ram", "--cache_size", str(size)]
        return told

    def _start(self) -> None:
        self.close()
        assert self._runtime is not None
        self._address = Address(port=_free_port())
        command = [sys.executable, "-m", "llama_cpp.server", "--model", self._runtime.model]
        command += ["--host", "127.0.0.1", "--port", str(self._address.port), *self._arguments]
        log = self._folder / f"python-server-{'cached' if self._cached else 'plain'}.log"
        packages = os.pathsep.join(filter(None, [str(self._extras or ""), *_path()]))
        environ = {**self._environ, "PYTHONPATH": packages}
        self._program = Program(command, self._address, "/v1/models", log, environ)


def extras() -> Path:
    """The folder of the packages that it needs beside ours; installed if they are not there. Raises NotMeasured."""
    folder = platformdirs.user_cache_path("sessiond") / "peers" / "python-server"
    if _works(folder):
        return folder
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install += ["--upgrade", "--only-binary", ":all:", "--target", str(folder), *NEEDS]
    try:
        done = subprocess.run(install, capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotMeasured(f"what it needs cannot be installed: {error}") from error
    if done.returncode != 0 or not _works(folder):
        last = done.stderr.strip().splitlines()[-1:] or ["it cannot be imported"]
        raise NotMeasured(f"what it needs ({', '.join(NEEDS)}) cannot be installed: {last[0]}")
    return folder


def _works(folder: Path) -> bool:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *_path()])}
    done = subprocess.run([sys.executable, "-c", _PROBE], env=environ, capture_output=True, check=False)
    return done.returncode == 0


def _path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
