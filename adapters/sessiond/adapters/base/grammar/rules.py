"""Rules as numbers, and what can be said of them before the first byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from sessiond.adapters.base.grammar.faults import GrammarError
from sessiond.adapters.base.grammar.utf8 import Range, sequences

Symbol: TypeAlias = int
"""A rule by its number; or, below 0, a set of bytes: the complement of its number."""

MAX_SYMBOLS = 1 << 16
"""Of all rules together."""


@dataclass(eq=False, slots=True)
class Rules:
    """Numbered rules. Each is a list of alternatives, which are sequences of symbols; one without any is not defined yet."""

    alternatives: list[list[tuple[Symbol, ...]]] = field(default_factory=list[list[tuple[Symbol, ...]]])
    masks: list[int] = field(default_factory=list[int])
    """Sets of bytes: bit n is byte n."""
    _numbers: dict[int, Symbol] = field(default_factory=dict[int, Symbol])
    _classes: dict[tuple[Range, ...], tuple[Symbol, ...]] = field(
        default_factory=dict[tuple[Range, ...], tuple[Symbol, ...]]
    )
    _symbols: int = 0

    def new(self) -> Symbol:
        """A rule without alternatives."""
        self.alternatives.append([])
        return len(self.alternatives) - 1

    def add(self, rule: Symbol, alternative: Sequence[Symbol]) -> None:
        """One more alternative of a rule. Raises GrammarError if there are too many symbols."""
        self._symbols += len(alternative) + 1
        if self._symbols > MAX_SYMBOLS:
            raise GrammarError(f"has more than {MAX_SYMBOLS} symbols, repetitions written out")
        self.alternatives[rule].append(tuple(alternative))

    def one_of(self, alternatives: Sequence[Sequence[Symbol]]) -> Symbol:
        """A rule of these alternatives."""
        rule = self.new()
        for alternative in alternatives:
            self.add(rule, alternative)
        return rule

    def literal(self, data: bytes) -> list[Symbol]:
        """These bytes."""
        return [self._bytes(1 << byte) for byte in data]

    def characters(self, ranges: tuple[Range, ...]) -> tuple[Symbol, ...]:
        """One character of these code points."""
        if ranges not in self._classes:
            spelled = [tuple(map(_mask, each)) for each in sequences(ranges)]
            single = 0
            for each in spelled:
                single |= each[0] if len(each) == 1 else 0
            options = [[self._bytes(mask) for mask in each] for each in spelled if len(each) > 1]
            if single:
                options.append([self._bytes(single)])
            if not options:
                raise GrammarError("has a set of characters that holds none")
            self._classes[ranges] = tuple(options[0]) if len(options) == 1 else (self.one_of(options),)
        return self._classes[ranges]

    def _bytes(self, mask: int) -> Symbol:
        if mask not in self._numbers:
            self._numbers[mask] = ~len(self.masks)
            self.masks.append(mask)
        return self._numbers[mask]


def _mask(span: Range) -> int:
    first, last = span
    return (1 << last + 1) - (1 << first)


def may_be_empty(rules: Rules) -> list[bool]:
    """Whether each rule matches the empty text. In time linear in the symbols."""
    empty = [False] * len(rules.alternatives)
    waiting: list[list[list[int]]] = [[] for _ in empty]
    """By rule, the alternatives that have it: each as its rule and how many symbols are not known to be empty."""
    found: list[int] = []
    for rule, alternatives in enumerate(rules.alternatives):
        for alternative in alternatives:
            if any(symbol < 0 for symbol in alternative):
                continue
            count = [rule, len(alternative)]
            for symbol in alternative:
                waiting[symbol].append(count)
            if not alternative:
                found.append(rule)
    while found:
        rule = found.pop()
        if empty[rule]:
            continue
        empty[rule] = True
        for count in waiting[rule]:
            count[1] -= 1
            if not count[1]:
                found.append(count[0])
    return empty


def left_recursive(rules: Rules) -> int | None:
    """A rule that comes to itself before it has read a byte, if there is one.

    A repetition of what may be empty does so too, at its very end. That is harmless, for nothing is left to do there.
    """
    empty = may_be_empty(rules)
    edges: list[list[tuple[int, bool]]] = [[] for _ in empty]
    for rule, alternatives in enumerate(rules.alternatives):
        for alternative in alternatives:
            for at, symbol in enumerate(alternative):
                if symbol < 0:
                    break
                harmless = 0 < at == len(alternative) - 1
                edges[rule].append((symbol, harmless))
                if not empty[symbol]:
                    break
    group = _groups([[target for target, _ in out] for out in edges])
    for rule, out in enumerate(edges):
        if any(group[rule] == group[target] and not harmless for target, harmless in out):
            return rule
    return None


def _groups(edges: list[list[int]]) -> list[int]:
    """By node, a number that it shares with exactly those that it reaches and that reach it (Kosaraju)."""
    backward: list[list[int]] = [[] for _ in edges]
    for node, targets in enumerate(edges):
        for target in targets:
            backward[target].append(node)
    group = [-1] * len(edges)
    for root in reversed(_finished(edges)):
        todo = [root] if group[root] < 0 else []
        while todo:
            node = todo.pop()
            if group[node] < 0:
                group[node] = root
                todo += backward[node]
    return group


def _finished(edges: list[list[int]]) -> list[int]:
    """All nodes, in the order in which a depth-first search leaves them."""
    order: list[int] = []
    seen = [False] * len(edges)
    for root in range(len(edges)):
        todo = [(root, 0)]
        while todo:
            node, at = todo.pop()
            if not at:
                if seen[node]:
                    continue
                seen[node] = True
            if at < len(edges[node]):
                todo.append((node, at + 1))
                if not seen[edges[node][at]]:
                    todo.append((edges[node][at], 0))
            else:
                order.append(node)
    return order
