"""Prompts as a graph: each piece once at each place, whatever its text holds."""

from __future__ import annotations

import re

from sessiond.client import Graph, Prompt
from sessiond.client.prompts.costs import Cost, Costs
from sessiond.client.prompts.turn import Turn
from sessiond.v1.context_pb2 import (
    ContextManifest,
    ContextReport,
    ManifestSegment,
    PrefixStatus,
    SegmentResidence,
    SuffixStatus,
)

BASE = Prompt("base ") + Prompt("some text", path="a.py")
FIRST, SECOND = BASE + "first?", BASE + "second?"


def _report(*segments: tuple[str, int, int, int], suffix: int = 0, resident: int = 0) -> ContextReport:
    """Of segments with their names, tokens, and how many of these are resident and in memory."""
    told, at = ContextReport(suffix_tokens=suffix), 0
    for name, tokens, here, in_memory in segments:
        segment = ManifestSegment(id=name, token_start=at, token_end=at + tokens)
        at += tokens
        told.manifest.segments.append(segment)
        told.segments.append(
            SegmentResidence(
                segment=segment,
                resident_tokens=here,
                memory_tokens=in_memory,
                missing_tokens=tokens - here - in_memory,
            )
        )
    told.prefix_tokens, told.resident_tokens = at, resident
    return told


def _run(*turns: tuple[Prompt, int, int]) -> Costs:
    """Of turns with how many tokens of their prefix and suffix were computed: 5 of a frame, 10 and 20 of the pieces, 8 last."""
    costs = Costs()
    made = [Turn(prompt, index) for index, (prompt, _, _) in enumerate(turns)]
    costs.begin(made)
    for turn, (_, prefix, suffix) in zip(made, turns, strict=True):
        costs.heard(
            turn,
            PrefixStatus(prefilled_tokens=prefix, prefix_tokens=35),
            SuffixStatus(suffix_tokens=8, prefilled_tokens=suffix),
            _report(("frame", 5, 5, 0), ("piece 0", 10, 10, 0), ("piece 1", 20, 20, 0)),
            float(prefix + suffix),
        )
    return costs


def test_what_several_prompts_share_is_one_node() -> None:
    graph = Graph.of([FIRST, SECOND, FIRST, BASE], Costs(), [])
    assert [(node.label, node.prompts) for node in graph.nodes] == [
        ("base ", ()),
        ("a.py", (3,)),
        ("first?", (0, 2)),
        ("second?", (1,)),
    ]
    above = [node.above.label if node.above else None for node in graph.nodes]
    assert above == [None, "base ", "a.py", "a.py"]
    assert {node.state for node in graph.nodes} == {"not computed"}


def test_costs_stand_at_the_pieces_that_were_computed_and_add_up() -> None:
    costs = _run((FIRST, 25, 8), (SECOND, 0, 8))
    graph = Graph.of([FIRST, SECOND], costs, [])
    assert [node.cost for node in graph.nodes] == [
        Cost(15, 5, 25, 5.0),  # the frame counts with the piece that it opens
        Cost(20, 20, 20, 20.0),
        Cost(8, 8, 0, 8.0),
        Cost(8, 8, 0, 8.0),
    ]
    assert {node.state for node in graph.nodes} == {"not held"}


def test_a_new_run_forgets_what_its_pieces_cost_before() -> None:
    costs = _run((FIRST, 25, 8))
    costs.begin([Turn(SECOND)])
    assert costs.of(BASE.pieces) is None
    assert costs.of(FIRST.pieces) == Cost(8, 8, 0, 8.0)
    assert costs.prompts == (SECOND,)


def test_where_kv_is_stands_where_a_session_does() -> None:
    costs = _run((FIRST, 25, 8), (SECOND, 0, 8))
    report = _report(
        ("frame", 5, 5, 0), ("piece 0", 10, 10, 0), ("piece 1", 20, 4, 10), suffix=9, resident=19
    )
    states = {
        node.label: node.state for node in Graph.of([FIRST, SECOND], costs, [(Turn(FIRST), report)]).nodes
    }
    assert states == {
        "base ": "resident",
        "a.py": "4 resident, 10 in memory, 6 not computed",
        "first?": "not computed",
        "second?": "not held",
    }


def test_as_text_it_is_a_tree() -> None:
    lines = Graph.of([FIRST, SECOND], _run((FIRST, 25, 8), (SECOND, 0, 8)), []).text().splitlines()
    assert lines[0].split() == ["PIECE", "TOKENS", "COMPUTED", "KEPT", "MS", "WHERE"]
    assert [len(line) - len(line.lstrip()) for line in lines[1:]] == [0, 2, 4, 4]
    assert lines[2].split() == ["a.py", "20", "20", "20", "20.0", "not", "held"]


HOSTILE = '"]; click p0 "javascript:alert(1)"\n<img src=x>\x1b[2J\u202e&amp;#quot; `x`'


def test_hostile_text_is_a_label_and_nothing_else() -> None:
    graph = Graph.of([Prompt(HOSTILE) + Prompt("text", path=HOSTILE) + Prompt.user(HOSTILE)], Costs(), [])
    assert "\x1b" not in graph.text() and "\u202e" not in graph.text()
    assert len(graph.text().splitlines()) == 4
    chart = graph.mermaid().splitlines()
    assert chart[0] == "flowchart TD"
    for line in chart[1:]:
        assert re.fullmatch(r' {4}(p\d+\["[\w .,:/…<>#;-]*"\]|p\d+ --> p\d+)', line), line
        assert set(re.findall(r"<.*?>", line)) <= {"<br>"}


def test_no_prompts_are_a_graph_of_nothing() -> None:
    graph = Graph.of([], Costs(), [])
    assert graph.nodes == () and graph.mermaid() == "flowchart TD" and len(graph.text().splitlines()) == 1


def test_a_manifest_of_something_else_says_nothing_of_the_pieces() -> None:
    costs = Costs()
    turn = Turn(FIRST)
    costs.begin([turn])
    costs.heard(
        turn, PrefixStatus(), SuffixStatus(suffix_tokens=8), ContextReport(manifest=ContextManifest()), 0.0
    )
    cost = costs.of(BASE.pieces)
    assert cost is not None and (cost.computed_tokens, cost.kept_tokens) == (0, 0)
