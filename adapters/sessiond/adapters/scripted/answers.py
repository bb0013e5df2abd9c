"""What comes next: a pure function of the model and of exactly the tokens from the root.

A state is a hash over these tokens; the logits are pseudo-random numbers made from it. All of it is a few calls
into C for each token, because property tests take many thousands of steps.

Logits lie in [8, 16) for tokens that may come and in (-16, -8] for those that should not: special tokens, control
characters, and bytes that would not make a character here. Where an answer ends, end tokens lie in [32, 64).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

from sessiond.adapters.scripted import vocab

STATE_BYTES = 16
_ENDS_ONE_IN = 64

# The bits of a float32. The mantissa is random, sign and exponent are set by what a token may do here.
_RANDOM = 0x007FFFFF
_LIKELY = 0x41000000
_UNLIKELY = 0xC1000000
_CERTAIN = 0x42000000


def root(seed: str) -> bytes:
    """The state before the first token, of the model that `seed` names."""
    return hashlib.blake2b(seed.encode(), digest_size=STATE_BYTES).digest()


def step(state: bytes, token: int) -> bytes:
    """The state after one more token."""
    return hashlib.blake2b(state + token.to_bytes(4, "little"), digest_size=STATE_BYTES).digest()


def logits(state: bytes, last: int) -> bytes:
    """The logits in a state whose last token is `last`: native float32, one for each token."""
    if last in vocab.OPENERS:
        frame = _INSIDE_CHARACTER
    elif state[0] % _ENDS_ONE_IN == 0:
        frame = _AT_END
    else:
        frame = _ANYWHERE
    noise = int.from_bytes(hashlib.shake_128(state).digest(4 * vocab.SIZE), "little")
    return ((noise & _MANTISSAS) | frame).to_bytes(4 * vocab.SIZE, "little")


def _frame(bits: Callable[[int], int]) -> int:
    """These bits of every token, as one number in the order of the bytes of an array of native float32."""
    return int.from_bytes(struct.pack(f"={vocab.SIZE}I", *map(bits, range(vocab.SIZE))), "little")


def _completes(token: int) -> bool:
    return 0x80 <= token <= 0xBF


def _printable(token: int) -> bool:
    if token >= vocab.BOS:
        return False
    return token >= 0x100 or 0x20 <= token < 0x7F or token == ord("\n") or token in vocab.OPENERS


_MANTISSAS = _frame(lambda _: _RANDOM)
_ANYWHERE = _frame(lambda token: _LIKELY if _printable(token) else _UNLIKELY)
_INSIDE_CHARACTER = _frame(lambda token: _LIKELY if _completes(token) else _UNLIKELY)
_AT_END = _frame(lambda token: _CERTAIN if token in vocab.END_TOKENS else _UNLIKELY)
