"""The vocabulary: 256 bytes, some common runs of bytes, and special tokens.

Text is split greedily into the longest runs. So a token's boundaries depend on its neighbours, as with real
tokenizers, and every text comes back exactly.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final

from sessiond.adapters.base import BackendError, FimTokens, VocabFacts

_WORDS = (
    "the| the|in|er|re|on|an|at|en|or| a| of| to| and|ing|tion|def |self|return |import |from |class |if |for "
    "|name|value|user|assistant|system|True|None|()|):|==|->|# |  |    "
)
# A few whole characters, and the first three bytes of the emoticons: they end in the token that follows.
_RUNS = (*(word.encode() for word in _WORDS.split("|")), b"\n\n", b"\r\n", "é".encode(), "€".encode())
_OPEN_EMOTICON = b"\xf0\x9f\x98"
_PLAIN: Final = tuple(bytes([value]) for value in range(256)) + _RUNS + (_OPEN_EMOTICON,)
_FIM_TEXTS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_sep|>")
_SPECIAL_TEXTS: Final = ("<|bos|>", "<|im_start|>", "<|im_end|>", "<|end|>", *_FIM_TEXTS)

SIZE: Final = len(_PLAIN) + len(_SPECIAL_TEXTS)
BOS: Final = len(_PLAIN)
IM_START: Final = BOS + 1
IM_END: Final = BOS + 2
END: Final = BOS + 3
FILE: Final = END + 4
FIM: Final = FimTokens(END + 1, END + 2, END + 3, FILE)
END_TOKENS: Final = frozenset({IM_END, END})

PIECES: Final = _PLAIN + (b"",) * len(_SPECIAL_TEXTS)
"""The bytes of each token; none for a special one."""
OPENERS: Final = frozenset({0xC3, PIECES.index(_OPEN_EMOTICON)})
"""Tokens that start a character which any byte from 0x80 to 0xbf completes."""

CHAT_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

_ID_OF = {piece: token for token, piece in enumerate(_PLAIN)}
_SPECIAL_ID_OF = {text: BOS + index for index, text in enumerate(_SPECIAL_TEXTS)}
_LONGEST_FIRST = re.compile(
    b"|".join(re.escape(piece) for piece in sorted(_PLAIN, key=len, reverse=True)), re.DOTALL
)
_SPECIAL = re.compile("(" + "|".join(re.escape(text) for text in _SPECIAL_TEXTS) + ")")


def tokenize(text: str, *, parse_special: bool) -> list[int]:
    """The tokens of a text; with `parse_special` the names of special tokens are read as these."""
    tokens: list[int] = []
    for part in _SPECIAL.split(text) if parse_special else (text,):
        special = _SPECIAL_ID_OF.get(part) if parse_special else None
        if special is not None:
            tokens.append(special)
        else:
            tokens.extend(_ID_OF[piece] for piece in _LONGEST_FIRST.findall(part.encode()))
    return tokens


def check(tokens: Sequence[int]) -> None:
    """Raises BackendError if one of the ids is unknown."""
    for token in tokens:
        if not 0 <= token < SIZE:
            raise BackendError(f"scripted: token {token} is not in the vocabulary of {SIZE}")


def facts(*, add_bos: bool, fim: bool) -> VocabFacts:
    """The vocabulary as the engine sees it."""
    rules = repr((_PLAIN, _SPECIAL_TEXTS, BOS, add_bos, sorted(END_TOKENS)))
    return VocabFacts(
        size=SIZE,
        bos=BOS,
        add_bos=add_bos,
        end_tokens=END_TOKENS | {FILE} if fim else END_TOKENS,
        digest=hashlib.sha256(rules.encode()).hexdigest(),
        chat_template=CHAT_TEMPLATE,
        bos_text=_SPECIAL_TEXTS[0],
        eos_text=_SPECIAL_TEXTS[IM_END - BOS],
        fim=FIM if fim else None,
    )
