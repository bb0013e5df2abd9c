"""Results are kept whole, read as what nobody vouches for, judged by pairs, and shown with what they do not say."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark import plots, table
from benchmark.judge import beaten, hopeless, judged, settled
from benchmark.results import (
    FORMAT,
    MOST_BYTES,
    CachingRow,
    DayTurn,
    Limit,
    Machine,
    MemoryRow,
    ModelFacts,
    NoResults,
    Report,
    Row,
    SideFacts,
    Way,
    as_csv,
    decoded,
    encoded,
    read,
    written,
)
from benchmark.took import Took

PEERS = ("slow peer", "fast peer")
LIMIT = Limit(floor_ratio=1.10, floor_extra_ms=5.0, peer_ratio=2.0)


def took(ms: float, **counts: int) -> Took:
    return Took(first_token_ms=ms, **counts)


def row(label: str, ours: Sequence[float], floor: Sequence[float], **others: Sequence[float]) -> Row:
    """A warm row; `others` by names with underscores."""
    sides = {"sessiond": ours, "floor": floor} | {
        name.replace("_", " "): times for name, times in others.items()
    }
    samples: dict[str, list[Took | None]] = {
        side: [took(ms, prefilled_tokens=16, reused_tokens=1000) for ms in times]
        for side, times in sides.items()
    }
    return Row("suffix", label, 1000, 16, warm=True, limit=LIMIT, prefix_tokens=1001, samples=samples)


def report(*rows: Row, **fields: Any) -> Report:
    """A run that found these rows."""
    sides = [
        SideFacts("sessiond", "ours"),
        SideFacts("floor", "floor"),
        *(SideFacts(n, "peer") for n in PEERS),
    ]
    return Report(
        format=FORMAT,
        version="0.1.0",
        began="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        asked={"quick": "True"},
        machine=Machine(
            *("a CPU", 2, ["avx2"], 1 << 33, "Linux", "3.11", 0.1),
            chosen={"num_threads": "2"},
            ways=[Way({"num_threads": "2"}, 300.0, 50.0, 9.0)],
        ),
        model=ModelFacts("a.gguf", "00", 1, 1, 1, "llama-cpp", "1", ["CPU"], {"num_threads": "2"}),
        texts_digest="00",
        sides=sides,
        rows=list(rows),
        not_measured=[],
        **fields,
    )


def whole() -> Report:
    """With something of everything."""
    return report(
        row("suffix of 16", [20, 21, 22, 20, 21], [19] * 5, slow_peer=[90] * 5, fast_peer=[50] * 5),
        row("suffix of 64", [30, 31, 32, 30, 31], [29] * 5, slow_peer=[99] * 5, fast_peer=[60] * 5),
        Row("edit", "edit <at> the \"head\" & 'tail'", 1000, 16, samples={"sessiond": [took(900.0)] * 5}),
        Row(
            "decode",
            "each token, alone",
            1000,
            metric="token_ms",
            samples={"sessiond": [Took(9.0, 5.0), None]},
        ),
        caching=[CachingRow("eval", 100.0, 1000), CachingRow("save state", 5.0, 1000, 1 << 20)],
        memory=[
            MemoryRow("one session", 1 << 28, 1 << 27, 1 << 26),
            MemoryRow("two", 1 << 29, 1 << 27, 1 << 26),
        ],
        day=[
            DayTurn(
                "save",
                1,
                1000,
                {"sessiond": took(20.0, reused_tokens=900, prefilled_tokens=116), "floor": None},
            ),
            DayTurn("undo", 1, 1000, {"sessiond": took(10.0, restored_tokens=1016)}),
        ],
        notes=["a note"],
    )


# ---- files


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    kept = whole()
    written(tmp_path / "results.json", encoded(kept))
    assert read(tmp_path / "results.json") == kept
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


FINITE = st.floats(0, 1e9)


@given(st.lists(st.none() | st.builds(Took, FINITE, FINITE, st.none() | st.integers(0, 1 << 40))))
def test_any_samples_come_back(samples: list[Took | None]) -> None:
    kept = report(Row("again", "same again", 1000, samples={"sessiond": samples}))
    assert decoded(encoded(kept)) == kept


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.integers(), st.lists).map(lambda x: json.dumps(x).encode())
)
def test_other_bytes_are_no_results(data: bytes) -> None:
    with pytest.raises(NoResults):
        decoded(data)


def changed(path: list[str | int], value: object) -> bytes:
    told: Any = json.loads(encoded(whole()))
    at = told
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return json.dumps(told).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["format"], "sessiond-benchmark 2"),
        (["surprise"], 1),
        (["rows", 0, "samples", "sessiond", 0, "first_token_ms"], -1),
        (["rows", 0, "samples", "sessiond", 0, "first_token_ms"], 1e300),
        (["rows", 0, "samples", "sessiond", 0, "first_token_ms"], "20"),
        (["rows", 0, "samples", "nobody"], []),
        (["rows", 0, "load"], [2.0]),
        (["rows", 1, "label"], "suffix of 16"),
        (["rows", 0, "metric"], "luck"),
        (["sides", 1, "name"], "sessiond"),
        (["machine", "cpu"], "x" * 1000),
        (
            ["machine", "ways"],
            [{"settings": {}, "bulk_tokens_per_second": -1, "small_ms": 1, "single_ms": 1}],
        ),
        (["machine", "chosen"], {"num_threads": 2}),
        (["seconds"], None),
    ],
)
def test_a_file_with_one_fault_is_refused(path: list[str | int], value: object) -> None:
    with pytest.raises(NoResults):
        decoded(changed(path, value))


def test_a_file_that_is_not_there_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoResults, match="cannot be read"):
        read(tmp_path / "none.json")
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(NoResults, match="larger than"):
        read(large)


def test_csv_has_a_line_for_each_sample() -> None:
    lines = list(csv.DictReader(io.StringIO(as_csv(whole()))))
    assert len(lines) == 2 * 20 + 5 + 1
    assert float(lines[0]["first_token_ms"]) == 20 and lines[0]["restored_tokens"] == ""


def test_no_cell_is_a_formula() -> None:
    kept = report(Row("again", "=cmd()", 1, samples={"sessiond": [took(1.0)]}))
    assert "'=cmd()" in as_csv(kept)


# ---- what they say


def test_ratios_are_made_of_pairs_not_of_medians() -> None:
    # The machine became three times slower in between, for both.
    [verdict] = judged(report(row("a", [10, 11, 30, 33, 10], [10, 11, 30, 33, 10])))
    assert verdict.to_floor is not None
    assert (verdict.to_floor.low, verdict.to_floor.high) == (1.0, 1.0)
    assert verdict.sides["sessiond"].fault == "too wide"


def test_the_best_peer_is_the_fastest_in_that_row() -> None:
    [verdict] = judged(report(row("a", [10] * 5, [10] * 5, slow_peer=[90] * 5, fast_peer=[40] * 5)))
    assert verdict.best_peer == "fast peer"
    assert verdict.to_peer is not None and verdict.to_peer.median == 4.0
    assert (verdict.shortfalls, verdict.unknown, verdict.faster) == ([], [], [])


def test_a_row_that_falls_short_says_so() -> None:
    [verdict] = judged(report(row("a", [40] * 5, [20] * 5, fast_peer=[30] * 5)))
    assert len(verdict.shortfalls) == 2
    assert "1.75 times the floor" in verdict.shortfalls[0]
    assert "0.75 times as fast as fast peer, not 2" in verdict.shortfalls[1]
    assert verdict.faster == ["fast peer was faster: ours took 1.33 times as long"]


def test_the_extra_of_a_claim_is_taken_off() -> None:
    [verdict] = judged(report(row("a", [15.9] * 5, [10] * 5, fast_peer=[40] * 5)))
    assert verdict.shortfalls == []


@pytest.mark.parametrize(
    ("ours", "why"), [([10.0] * 3, "too few (3)"), ([10.0, 10.0, 20.0, 40.0, 40.0], "too wide")]
)
def test_a_claim_that_nothing_can_be_said_of_is_not_known(ours: list[float], why: str) -> None:
    [verdict] = judged(report(row("a", ours, [10] * 5, fast_peer=[40] * 5)))
    assert verdict.shortfalls == []
    assert [told.endswith(why) for told in verdict.unknown] == [True, True]


@pytest.mark.parametrize(
    ("ours", "fast_peer", "told"),
    [
        # A millisecond or less is left once the extra is off: far below the floor, and many times as wide as its median.
        ([4.0, 5.1, 5.3, 5.9, 6.0], [60.0] * 5, []),
        ([10.0] * 5, [21.0, 30.0, 40.0, 90.0, 99.0], []),
        ([10.0] * 5, [19.0, 20.0, 30.0, 40.0, 50.0], ["2 times as fast as the best peer: too wide"]),
        ([14.0, 15.0, 20.0, 30.0, 40.0], [200.0] * 5, ["plus 5 ms: too wide"]),
    ],
)
def test_a_wide_interval_on_the_good_side_of_its_limit_holds(
    ours: list[float], fast_peer: list[float], told: list[str]
) -> None:
    [verdict] = judged(report(row("a", ours, [10.0] * 5, fast_peer=fast_peer)))
    assert verdict.shortfalls == []
    assert len(verdict.unknown) == len(told)
    assert all(found.endswith(wanted) for found, wanted in zip(verdict.unknown, told, strict=True))
    assert table.mark(verdict) == ("not known" if told else "holds")


def test_a_wide_interval_on_the_wrong_side_of_its_limit_is_a_shortfall() -> None:
    [verdict] = judged(report(row("a", [17, 20, 30, 40, 50], [10] * 5, fast_peer=[15] * 5)))
    assert verdict.unknown == []
    assert verdict.shortfalls == [
        "it is 1.20 to 4.50 times the floor, less that extra, not at most 1.1 times the floor plus 5 ms",
        "it is 0.30 to 0.88 times as fast as fast peer, not 2",
    ]
    assert verdict.faster == ["fast peer was faster: ours took 1.13 to 3.33 times as long"]


def test_what_is_not_slower_is_not_known_to_be_as_fast_either_where_it_is_wide() -> None:
    kept = row("a", [10] * 5, [10] * 5, fast_peer=[5, 6, 9, 12, 13])
    kept.limit = Limit(peer_ratio=1.0)
    [verdict] = judged(report(kept))
    assert verdict.unknown == ["at least 1 times as fast as the best peer: too wide"]


def test_four_samples_decide_nothing_wherever_they_lie() -> None:
    [verdict] = judged(report(row("a", [1] * 4, [10] * 4, fast_peer=[99] * 4)))
    assert [told.endswith("too few (4)") for told in verdict.unknown] == [True, True]
    [verdict] = judged(report(row("a", [99] * 4, [10] * 4, fast_peer=[10] * 4)))
    assert (verdict.shortfalls, verdict.faster) == ([], [])


def test_a_repeat_that_failed_is_in_no_pair() -> None:
    kept = row("a", [10] * 6, [10] * 6)
    kept.samples["sessiond"][2] = None
    [verdict] = judged(report(kept))
    assert verdict.to_floor is not None and verdict.to_floor.samples == 5


def test_a_row_is_settled_when_its_ratios_are_narrow() -> None:
    steady = row("a", [10, 20, 40, 10, 20], [10, 20, 40, 10, 20])
    assert settled(steady, "sessiond", ["floor"])
    assert not settled(steady, "sessiond", [])
    assert not settled(row("a", [10] * 4, [10] * 4), "sessiond", ["floor"])


# ---- what is shown


def test_the_table_tells_figures_and_why_there_are_none() -> None:
    kept = whole()
    kept.rows[1].samples["fast peer"] = []
    kept.rows[1].not_measured["fast peer"] = "it died"
    kept.rows[0].load = [0.5] * 5
    page = table.tables(kept)
    for told in (
        "suffix of 16",
        "1.11 [1.05, 1.16]",
        "2.38 [2.27, 2.50]",
        "not measured fast peer, in suffix of 64 @ 1000: it died",
        "disturbed    suffix of 16 @ 1000: others had 50% of the machine",
        "too few",
        "save state",
        "+256",
        "note         a note",
    ):
        assert told in page


def test_no_cell_is_empty_without_a_reason() -> None:
    apart = row("together", [10] * 5, [10] * 5)
    apart.metric = "token_ms"
    apart.samples |= {
        "sessiond": [Took(20.0, 5.0)] * 5,
        "floor": [Took(20.0, 5.0)] * 5,
        "slow peer": [Took(90.0)] * 5,
        "fast peer": [None],
    }
    apart.not_measured["fast peer"] = "it died"
    never = row("never", [10] * 5, [10] * 5, fast_peer=[20] * 5)
    nobody = Row("restart", "restart", 1000, not_measured={"all": "there was no time for it"})
    page = table.tables(report(apart, never, nobody))
    alone = "it answered, but a single token came, or the streams never ran at one time"
    assert [line for line in page.splitlines() if line.startswith("not measured")] == [
        "not measured fast peer, in together @ 1000: it died",
        f"not measured slow peer, in together @ 1000: {alone}",
        "not measured slow peer, in never @ 1000: no repeat came to its end",
        "not measured all, in restart @ 1000: there was no time for it",
    ]


def test_a_side_that_could_not_answer_a_question_of_the_day_is_explained() -> None:
    assert "answered no question of that kind" in table.tables(whole())
    kept = whole()
    kept.day = kept.day[1:]
    assert "answered no question of that kind" not in table.tables(kept)


def test_how_long_the_background_took_is_told_by_row() -> None:
    kept = whole()
    assert table.thinking(kept) == []
    ready = [12_300.0, 12_500.0, 12_400.0, 12_350.0, 12_450.0]
    kept.rows[2].samples["sessiond"] = [None, *(Took(60.0, ready_ms=each) for each in ready)]
    kept.rows[1].samples["sessiond"] = [Took(30.0, ready_ms=50.0)] * 2
    kept.rows[2].samples["floor"] = [Took(60.0, ready_ms=0.0)] * 6
    told = table.thinking(kept)
    assert told == [
        "suffix of 64 @ 1000: how long the background took is not known: too few (2)",
        f"{kept.rows[2].key}: the background took 12.4 s [12.3, 12.5]",
    ]
    assert f"thinking     {told[1]}" in table.tables(kept)


def test_two_samples_of_who_was_left_out_are_both_told() -> None:
    page = table.tables(report(row("a", [10] * 5, [10] * 5, slow_peer=[90.0, 80.0])))
    assert "80.0; 90.0" in page


def test_a_side_that_lacks_a_whole_depth_is_named_once() -> None:
    rows = [row(f"row {number}", [10] * 5, [10] * 5) for number in range(4)]
    for each in rows[2:]:
        each.depth = 4000
    for each in rows[1:]:
        each.not_measured["fast peer"] = "it is slow"
    assert "not measured fast peer, in row 1 @ 1000; every row @ 4000: it is slow" in table.tables(
        report(*rows)
    )


def test_a_shortfall_stands_in_the_table_and_below_it() -> None:
    page = table.tables(report(row("a", [40] * 5, [20] * 5, fast_peer=[30] * 5)))
    assert page.count("FALLS SHORT") == 3
    assert "peer faster  a @ 1000: fast peer was faster" in page


def test_pictures_are_valid_and_tell_what_they_show() -> None:
    found = plots.pictures(whole())
    assert sorted(found) == ["day.svg", "events.svg", "suffix-growth.svg"]
    for picture in found.values():
        root = ET.fromstring(picture)
        assert root.attrib["role"] == "img"
        title, told = (root.find(f"{{http://www.w3.org/2000/svg}}{name}") for name in ("title", "desc"))
        assert title is not None and title.text and told is not None and told.text
        assert "prefers-color-scheme:dark" in picture
    assert "suffix of 16 at 1,000: sessiond 21.0" in found["suffix-growth.svg"]
    assert "1,016 were brought back" in found["day.svg"]


SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(("kind", "name"), [("suffix", "suffix-growth.svg"), ("edit", "events.svg")])
def test_a_figure_that_says_little_is_drawn_pale_and_has_no_whisker(kind: str, name: str) -> None:
    sound = row("suffix of 16", [20, 21, 22, 20, 21], [19] * 5)
    wide, few = [30.0, 60.0, 90.0, 200.0, 5000.0], [900.0, 990.0]
    faulty = row("suffix of 64", [30] * 5, wide, slow_peer=few)
    sound.kind = faulty.kind = kind
    faulty.suffix = 64
    root = ET.fromstring(plots.pictures(report(sound, faulty))[name])
    [floor, peer, legend] = _pale(root)
    assert "floor: too wide, about 90.0 ms" in floor
    assert "slow peer: too few (2), about 945.0 ms" in peer
    assert legend == "", "a mark of nobody"
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert "pale: too few or too wide" in words
    assert "5,000" not in words, "the axis has no room for a whisker that is not there"
    assert "floor too wide" in "".join(root.itertext())
    lines = [
        line.get("points", "") for line in root.iter(f"{SVG}polyline") if line.get("class", "")[0] == "s"
    ]
    # Three figures are sound, and ours alone are two that can be joined.
    joined = [
        points
        for points in lines
        if kind == "suffix" and len({at.split(",")[0] for at in points.split()}) > 1
    ]
    assert len([points for points in lines if len(points.split()) > 1]) - len(joined) == 3
    assert len(joined) == (kind == "suffix")


def _pale(root: ET.Element) -> list[str]:
    """What pale marks say, the legend's last."""
    found = ["".join(group.itertext()).strip() for group in root.findall(f"{SVG}g")]
    return sorted(found, key=lambda told: (not told, told.split(": ")[0]))


def test_where_all_is_sound_nothing_is_pale() -> None:
    for picture in plots.pictures(report(row("a", [20] * 5, [19] * 5))).values():
        assert "opacity" not in picture and "pale" not in picture


def test_without_rows_there_are_no_pictures() -> None:
    assert plots.pictures(report()) == {}
    assert table.tables(report()) == ""


TIMES = st.lists(st.floats(0, 1e6), min_size=1, max_size=9)


@settings(deadline=None, max_examples=50)
@given(TIMES, TIMES, st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20))
def test_whatever_was_found_can_be_shown(ours: list[float], floor: list[float], label: str) -> None:
    kept = report(row(label, ours, floor), day=[DayTurn("save", 0, 0, {"sessiond": took(0.0)})])
    assert table.tables(kept)
    for picture in plots.pictures(kept).values():
        ET.fromstring(picture)


def test_peers_stay_of_whom_one_is_as_fast_as_the_fastest_in_every_row() -> None:
    one = row("one", [10.0] * 5, [9.0] * 5, stock=[90.0] * 5, slow_peer=[30.0] * 5, fast_peer=[20.0] * 5)
    other = row("other", [10.0] * 5, [9.0] * 5, stock=[90.0] * 5, slow_peer=[15.0] * 5, fast_peer=[20.0] * 5)
    near = [19.0, 19.5, 19.8, 20.1, 20.2]
    close = row("close", [10.0] * 5, [9.0] * 5, stock=[90.0] * 5, slow_peer=near, fast_peer=[20.0] * 5)
    tied = row("tied", [10.0] * 5, [9.0] * 5, stock=[90.0] * 5, slow_peer=[20.0] * 5, fast_peer=[20.0] * 5)
    easy = row("easy", [10.0] * 5, [9.0] * 5, stock=[5.0] * 5, slow_peer=[15.0] * 5, fast_peer=[20.0] * 5)
    alone = row("alone", [10.0] * 5, [9.0] * 5, stock=[90.0] * 5, slow_peer=[15.0] * 5)
    noisy = row(
        "noisy", [10.0] * 5, [9.0] * 5, slow_peer=[19.0] * 5, fast_peer=[18.0, 18.5, 19.5, 20.0, 20.5]
    )
    assert without(one) == {"slow peer"}
    assert without(one, other) == set()
    assert without(one, close) == set(), "it is surely slower, if by little"
    assert without(one, noisy) == {"slow peer"}, "it may be as fast"
    assert without(tied, tied) == {"fast peer"}, "one of two who are as fast as each other stays"
    assert without(one, tied) == {"slow peer"}, "and of those the one who is needed elsewhere"
    assert without(easy) == {"slow peer", "fast peer"}, "the program as it comes stands for a row as anybody"
    assert without(one, alone) == set()
    assert without(alone) == set(), "what has no figures is not beaten"
    assert without() == set()


def without(*rows: Row) -> set[str]:
    """Who is beaten. A row stands there once."""
    found = with_stock(*rows)
    return beaten(found, found.role("peer"))


def with_stock(*rows: Row) -> Report:
    """With one more peer, the program as it comes."""
    found = report(*rows)
    found.sides.insert(2, SideFacts("stock", "peer"))
    return found


def test_a_peer_is_hopeless_that_is_far_behind_another_one_every_time() -> None:
    one = row("one", [10.0] * 2, [9.0] * 2, slow_peer=[41.0, 90.0], fast_peer=[20.0, 40.0])
    once = row("once", [10.0] * 2, [9.0] * 2, slow_peer=[39.0, 90.0], fast_peer=[20.0, 40.0])
    alone = row("alone", [10.0] * 2, [9.0] * 2, slow_peer=[90.0, 90.0])
    assert hopeless([one], [*PEERS, "a peer that is not there"]) == {"slow peer"}
    assert hopeless([one, once], PEERS) == set(), "it is not, where one repeat of one row says otherwise"
    assert hopeless([one, alone], PEERS) == set(), "nobody was faster there"
    assert hopeless([], PEERS) == set()
