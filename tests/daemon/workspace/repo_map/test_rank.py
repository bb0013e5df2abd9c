"""What other files refer to comes first."""

from __future__ import annotations

from sessiond.daemon.workspace.repo_map.definitions import Definition, Outline
from sessiond.daemon.workspace.repo_map.rank import ranked


def _outline(*definitions: str | Definition, uses: str = "") -> Outline:
    made = (Definition(d, f"def {d}") if isinstance(d, str) else d for d in definitions)
    return Outline(tuple(made), frozenset(uses.split()))


def _names(*outlines: Outline) -> list[str]:
    outlined = [(f"src/f{number}.py", outline) for number, outline in enumerate(outlines)]
    return [outlines[file].definitions[index].name for file, index in ranked(outlined)]


def _users(count: int, uses: str) -> list[Outline]:
    return [_outline(uses=uses)] * count


def test_what_more_files_refer_to_comes_first() -> None:
    assert _names(
        _outline("none", "one", "many"),
        _outline("few"),
        *_users(4, "many"),
        *_users(2, "few"),
        *_users(1, "one"),
    ) == ["many", "few", "one", "none"]


def test_a_file_that_refers_to_its_own_names_does_not_count() -> None:
    assert _names(_outline("a", "b", uses="b"), _outline("b", uses="b"), _outline("c"), *_users(1, "c")) == [
        "c",
        "a",
        "b",
        "b",
    ]


def test_a_name_that_many_files_define_says_little() -> None:
    mains = [_outline("main") for _ in range(8)]
    assert _names(*mains, _outline("rare"), *_users(7, "main"), *_users(1, "rare"))[0] == "rare"


def test_one_more_reference_changes_nothing_within_a_power_of_two() -> None:
    files = [_outline("a"), _outline("b"), *_users(4, "a"), *_users(4, "b")]
    for _ in range(3):
        assert _names(*files) == ["a", "b"]
        files.append(_outline(uses="b"))
    assert _names(*files) == ["a", "b"]
    assert _names(*files, _outline(uses="b")) == ["b", "a"]


def test_what_stands_in_a_class_counts_where_the_class_is_named_too() -> None:
    shop = _outline(
        Definition("Shop", "class Shop"),
        Definition("add", "def add", parent=0, depth=1, owner="Shop"),
        Definition("sell", "def sell", parent=0, depth=1, owner="Shop"),
    )
    others = [*_users(9, ".add"), *_users(9, "add"), *_users(2, "Shop .sell shop.sell"), *_users(1, "other")]
    assert _names(shop, _outline("other"), *others) == ["Shop", "sell", "other", "add"]


def test_what_stands_in_no_class_counts_where_it_is_used_alone_or_through_its_module() -> None:
    files = [_outline("split"), _outline("joined"), _outline("asked"), _outline("through")]
    others = [".split text.split", "joined", ".asked f2.asked", ".asked f2.asked", ".through src.through"]
    assert _names(*files, *(_outline(uses=uses) for uses in others), *_users(2, "src.through")) == [
        "asked",
        "through",
        "joined",
        "split",
    ]


def test_a_class_comes_before_what_stands_in_it() -> None:
    space = _outline(
        Definition("space", "namespace space"),
        Definition("Inner", "class Inner", parent=0, depth=1),
        Definition("run", "void run()", parent=1, depth=2, owner="Inner"),
    )
    assert _names(_outline("a"), space, *_users(1, "a"), *_users(4, "run Inner")) == [
        "space",
        "Inner",
        "run",
        "a",
    ]


def test_what_is_private_and_unused_comes_last() -> None:
    private = _outline(
        Definition("_Hidden", "class _Hidden"),
        Definition("run", "def run", parent=0, depth=1, owner="_Hidden"),
    )
    used = _outline("_used", "_unused")
    assert _names(private, used, _outline("public"), *_users(1, "_used")) == [
        "_used",
        "public",
        "_unused",
        "_Hidden",
        "run",
    ]


def test_among_equals_a_file_that_is_used_comes_first_and_then_the_outer() -> None:
    shop = _outline(
        Definition("K", "class K"),
        Definition("m", "def m", parent=0, depth=1, owner="K"),
        Definition("f", "def f"),
    )
    assert _names(_outline("idle"), shop, _outline("busy", "asked"), *_users(1, "asked")) == [
        "asked",
        "busy",
        "idle",
        "K",
        "f",
        "m",
    ]


def test_nothing_is_nothing() -> None:
    assert ranked([]) == []
    assert ranked([("", Outline()), ("a.py", _outline(uses="a"))]) == []
