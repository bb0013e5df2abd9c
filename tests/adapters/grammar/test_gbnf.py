"""GBNF: what it means, what is no grammar, and what costs more than a grammar may."""

from __future__ import annotations

import re
from itertools import product

import pytest

from sessiond.adapters.base.grammar import Automaton, GrammarError, literal

_TEXTS = ["".join(each) for size in range(5) for each in product("ab-", repeat=size)]

SAME = {
    'root ::= "ab"': "ab",
    'root ::= "ab" | "b"': "ab|b",
    'root ::= "a"*': "a*",
    'root ::= "ab"+': "(ab)+",
    'root ::= "a"? "b"': "a?b",
    'root ::= ("a" | "b"){2,3}': "[ab]{2,3}",
    'root ::= "a"{2}': "a{2}",
    'root ::= "a"{2,} "b"{0}': "a{2,}",
    "root ::= [a-b]* [-]": "[ab]*-",
    "root ::= [^a]+": "[^a]+",
    "root ::= [^a-b-] [b-]?": "(?!)",
    "root ::= . .": "..",
    'root ::= x y # and\n\nx ::= "a"\ny ::= ("b" |\n  "-")': "a[b-]",
    'root ::= ((("a"?)*)*)* "b"': "a*b",
    'root ::= "a" root "b" | ""': "|ab|aabb",
    r'root ::= "\x61" [\u0062] "\U0000002D"': "ab-",
    r'root ::= [\-] "\""?': "-",
    'root ::= "a" | \n "b"': "[ab]",
    'root ::=\n "a"\r\nunused ::= "b"': "a",
    "root ::= ": "",
}


@pytest.mark.parametrize("grammar", SAME)
def test_a_grammar_allows_what_the_same_pattern_matches(grammar: str) -> None:
    automaton = Automaton(grammar)
    for text in _TEXTS:
        after = automaton.run(automaton.start, text.encode())
        assert (after is not None and after.may_end) == bool(re.fullmatch(SAME[grammar], text)), text


WRONG = {
    "": "root",
    'x ::= "a"': "root",
    "root ::= y": "line 1: a name that is not defined",
    'root = "a"': "line 1",
    'root ::= "a\n': "closing",
    "root ::= [a": "closing",
    "root ::= [": "closing",
    "root ::= []": "none",
    "root ::= [b-a]": "range",
    r'root ::= "\q"': "one of",
    r'root ::= "\x6"': "one of",
    r'root ::= "\uD800"': "UTF-8",
    r'root ::= "\U00110000"': "UTF-8",
    "root ::= *": "repeat",
    'root ::= "a"{}': "repetition",
    'root ::= "a"{3,2}': "least",
    'root ::= "a"{2001}': "2000",
    'root ::= "a"{0,2001}': "2000",
    'root ::= ("a"': r"'\)'",
    'root ::= "a")': "end of the line",
    'root ::= "a" "b" ::= "c"': "name",
    'root ::= "a"\nroot ::= "b"': "not defined yet",
    "root ::= <think>": "name",
    'root ::= root "a" | "b"': "left-recursive",
    'root ::= x\nx ::= y "a"\ny ::= x | "b"': "left-recursive",
    'root ::= empty root "b" | "c"\nempty ::= also\nalso ::= "" | "x"': "left-recursive",
    "root ::= root": "left-recursive",
}


@pytest.mark.parametrize("grammar", WRONG)
def test_what_is_no_grammar_is_refused_in_words(grammar: str) -> None:
    with pytest.raises(GrammarError, match=WRONG[grammar]):
        Automaton(grammar)


_DOUBLED = "\n".join(f"r{n} ::= r{n + 1} r{n + 1}" for n in range(40))

HOSTILE = {
    "long": 'root ::= "' + "a" * 70_000 + '"',
    "many parentheses": "root ::= " + "(" * 60_000,
    "repetitions of repetitions": 'root ::= (("a"{0,2000}){0,2000}){0,2000}',
    "many symbols": "root ::= " + "x{2000} " * 40 + '\nx ::= "a"',
    "doubled without end": f'root ::= r0\n{_DOUBLED}\nr40 ::= "x"?',
    "many names": "root ::= " + " ".join(f"a{n}" for n in range(9000)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_grammar_that_would_cost_too_much_is_refused(name: str) -> None:
    with pytest.raises(GrammarError):
        Automaton(HOSTILE[name])


def test_a_long_chain_of_rules_is_followed_without_recursion() -> None:
    chain = "\n".join(f"r{n} ::= r{n + 1}" for n in range(3000))
    automaton = Automaton(f'root ::= r0\n{chain}\nr3000 ::= "x"')
    after = automaton.run(automaton.start, b"x")
    assert after is not None and after.ended


def test_what_becomes_too_ambiguous_on_the_way_is_refused_there() -> None:
    automaton = Automaton('root ::= "a" root "b" | "a" root "c" | ""')
    with pytest.raises(GrammarError, match=r"ambiguous|memory"):
        automaton.run(automaton.start, b"a" * 64)


@pytest.mark.parametrize("text", ["", "a", 'say "hi"\\', "tab\t\r\n", "ä€😒", "[a-b]{2}", "\x01\x7f"])
def test_a_literal_is_exactly_its_text(text: str) -> None:
    automaton = Automaton(f"root ::= {literal(text)}")
    after = automaton.run(automaton.start, text.encode())
    assert after is not None and after.ended
