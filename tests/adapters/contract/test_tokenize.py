"""Text to tokens and back."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.adapters.base import BackendError, Model

from .subjects import Subject


def _expected(text: str, subject: Subject) -> bytes:
    return bytes(byte for byte in text.encode() if byte not in subject.bytes_without_token)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=80))
def test_any_text_comes_back(subject: Subject, model: Model, text: str) -> None:
    tokens = model.tokenize(text, parse_special=False)
    found = b"".join(model.pieces(tokens))
    if any(byte in subject.bytes_without_token for byte in text.encode()):
        # How much of a character is lost with one of its bytes is the backend's affair; nothing is invented.
        assert len(found) < len(text.encode())
    else:
        assert found == text.encode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n",
        "\r\n\t  x",
        "  two  spaces  ",
        "naïve café, “quotes” …",
        "日本語のテキスト",
        "👩‍👩‍👧‍👦 family",
        "a\0b",
    ],
)
def test_chosen_texts_come_back(subject: Subject, model: Model, text: str) -> None:
    tokens = model.tokenize(text, parse_special=False)
    assert b"".join(model.pieces(tokens)) == _expected(text, subject)


def test_a_text_is_not_opened(model: Model) -> None:
    assert model.tokenize("", parse_special=False) == []
    assert model.tokenize("", parse_special=True) == []
    assert model.facts.vocab.bos not in model.tokenize("hello", parse_special=True)


def test_special_tokens_in_content_are_plain_text(model: Model) -> None:
    vocab = model.facts.vocab
    text = f"before {vocab.eos_text} after"
    tokens = model.tokenize(text, parse_special=False)
    assert vocab.end_tokens.isdisjoint(tokens)
    assert vocab.bos not in tokens
    assert b"".join(model.pieces(tokens)) == text.encode()


def test_special_tokens_of_a_template_are_special(model: Model) -> None:
    vocab = model.facts.vocab
    assert vocab.eos_text
    tokens = model.tokenize(vocab.eos_text, parse_special=True)
    assert len(tokens) == 1
    assert tokens[0] in vocab.end_tokens
    assert model.pieces(tokens) == [b""]


def test_each_token_has_its_own_bytes(model: Model) -> None:
    text = "The quick brown fox is not naïve."
    tokens = model.tokenize(text, parse_special=False)
    assert len(model.pieces(tokens)) == len(tokens)
    assert [model.pieces([token])[0] for token in tokens] == model.pieces(tokens)


def test_all_tokens_have_pieces(model: Model) -> None:
    assert len(model.pieces(range(model.facts.vocab.size))) == model.facts.vocab.size


@pytest.mark.parametrize("beyond", [-1, 0, 2**31 - 1])
def test_unknown_tokens_have_no_pieces(model: Model, beyond: int) -> None:
    token = model.facts.vocab.size if beyond == 0 else beyond
    with pytest.raises(BackendError):
        model.pieces([token])


def test_any_thread_may_tokenize(model: Model) -> None:
    text = "def name(value):\n    return value\n" * 20
    expected = model.tokenize(text, parse_special=False)
    found: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: found.append(model.tokenize(text, parse_special=False)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * len(threads)
