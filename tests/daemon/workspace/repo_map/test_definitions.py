"""Outlines of texts that nobody would write."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.daemon.workspace.repo_map.definitions import (
    MAX_DEFINITIONS,
    MAX_DEPTH,
    MAX_REFERENCES,
    MAX_SIGNATURE,
    Outline,
    outline,
)
from sessiond.daemon.workspace.repo_map.languages import LANGUAGES

_WORDS = """
    class def struct enum impl interface namespace type func fn function const static trait mod template < > ( ) [ ] {
    } : ; , = => -> * & . :: " ' ` # @ // /* */ \\ a B _c int void public export async return if #define #if
    """.split()
_OTHERS = ["\n", "\r\n", "\t", "    ", "\0", "\ufeff", "\u2028", "\u202e", "é", "🙂", "x" * 300]
_FRAGMENTS = st.sampled_from(_WORDS + _OTHERS)


def _signatures(found: Outline) -> list[str]:
    return [definition.signature for definition in found.definitions]


def _check(found: Outline) -> None:
    """What holds for every outline."""
    for index, definition in enumerate(found.definitions):
        assert definition.name
        assert definition.signature
        for text in (definition.name, definition.signature):
            assert len(text) <= MAX_SIGNATURE
            assert text.isprintable()
        if definition.parent is None:
            assert definition.depth == 0
        else:
            assert definition.parent < index
            assert definition.depth == found.definitions[definition.parent].depth + 1 <= MAX_DEPTH
    assert len(found.definitions) <= MAX_DEFINITIONS
    assert len(found.references) <= MAX_REFERENCES
    assert all(name.isprintable() and len(name) <= MAX_SIGNATURE for name in found.references)


@pytest.mark.parametrize("language", LANGUAGES)
@settings(max_examples=40, deadline=None)
@given(text=st.lists(_FRAGMENTS | st.text(max_size=5), max_size=60).map(" ".join))
def test_any_text_has_an_outline(language: str, text: str) -> None:
    source = text.encode(errors="replace")
    found = outline(language, source)
    _check(found)
    assert found == outline(language, source)


@pytest.mark.parametrize("language", LANGUAGES)
@settings(max_examples=20, deadline=None)
@given(source=st.binary(max_size=200))
def test_any_bytes_have_an_outline(language: str, source: bytes) -> None:
    _check(outline(language, source))


@pytest.mark.parametrize("language", LANGUAGES)
def test_nests(language: str) -> None:
    """Deeper ones are for the parser's process: see test_parser."""
    for piece in ("(", "{", "[", "<", "a(", "a{", "fn a(){", "class A{", "#if 1\n", "a.", "x=>", "!", 'R"('):
        _check(outline(language, (piece * 100).encode()))


def test_what_follows_a_fault_is_found() -> None:
    found = outline("python", b"def f():\n    x = )\n\n\0\nclass K: pass\n")
    assert {"f", "K"} == {definition.name for definition in found.definitions}


def test_definitions_in_definitions_are_shown_to_a_depth() -> None:
    source = "".join(f"{' ' * depth}class K{depth}:\n" for depth in range(500)) + " " * 500 + "pass\n"
    assert _signatures(outline("python", source.encode())) == [
        f"class K{depth}" for depth in range(MAX_DEPTH + 1)
    ]


def test_so_many_definitions_and_references_and_no_more() -> None:
    source = "".join(f"def f{number}(): g{number}()\n" for number in range(MAX_REFERENCES + 1))
    found = outline("python", source.encode())
    assert _signatures(found) == [f"def f{number}()" for number in range(MAX_DEFINITIONS)]
    assert len(found.references) == MAX_REFERENCES


def test_a_signature_is_one_line_of_limited_length() -> None:
    found = outline("python", b"def f(\n\ta,\r\n    b='\x1b[31m\xe2\x80\xae\0',\n) -> 'x':\n    pass\n")
    assert _signatures(found) == ["def f(a, b='[31m') -> 'x'"]
    long = outline("python", f"def f({'parameter, ' * 9_000}): pass".encode())
    assert _signatures(long) == ["def f(" + ("parameter, " * 20)[: MAX_SIGNATURE - 7] + "…"]
    name = "é" * 5_000
    [definition] = outline("python", f"def {name}(): pass".encode()).definitions
    assert len(definition.name) == len(definition.signature) == MAX_SIGNATURE


def test_comments_do_not_reach_a_signature() -> None:
    source = "def f(  # one\n    a,  # 'two'\n    b='# kept',\n):  # three\n    pass\n"
    assert _signatures(outline("python", source.encode())) == ["def f(a, b='# kept')"]
