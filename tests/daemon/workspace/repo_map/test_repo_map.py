"""The whole way: texts to the text of the map."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.daemon.workspace.repo_map import build, repo_map
from sessiond.daemon.workspace.repo_map.remembered import Memory

_PLENTY = 1_000_000


def _count(texts: Sequence[str]) -> list[int]:
    """Three characters a token."""
    return [-(-len(text) // 3) for text in texts]


def _map(files: dict[str, str], max_tokens: int = _PLENTY) -> str:
    return repo_map(list(files.items()), _count, max_tokens)


_SHOP = {
    "shop/sale.py": "from shop.stock import Stock\n\nclass Sale:\n    def close(self, stock: Stock): stock.take(1)\n",
    "shop/stock.py": "class Stock:\n    def take(self, n): ...\n    def _count(self): ...\n\ndef audit(): ...\n",
    "web/page.ts": "import { api } from './api';\nexport function page(): string { return api(); }\n",
    "web/api.ts": "export const api = async (path: string) => fetch(path);\n",
    "README.md": "# Shop\n",
    "empty.py": "",
}


def test_files_and_their_definitions_by_path() -> None:
    assert _map(_SHOP) == (
        "shop/sale.py:\n"
        " class Sale\n"
        "  def close(self, stock: Stock)\n"
        "shop/stock.py:\n"
        " class Stock\n"
        "  def take(self, n)\n"
        "  def _count(self)\n"
        " def audit()\n"
        "web/api.ts:\n"
        " const api = async (path: string)\n"
        "web/page.ts:\n"
        " function page(): string\n"
    )


def test_what_others_refer_to_stays_when_room_is_short() -> None:
    most = (
        "shop/stock.py:\n class Stock\n  def take(self, n)\nweb/api.ts:\n const api = async (path: string)\n"
    )
    assert _map(_SHOP, _count([most])[0]) == most
    assert _map(_SHOP, _count([most])[0] - 1) == most.replace("  def take(self, n)\n", "")


@pytest.mark.parametrize("files", [{}, {"a.md": "# a", "b": "def f(): pass"}, {"a.py": "x = 1\n"}])
def test_nothing_to_map_is_no_text(files: dict[str, str]) -> None:
    assert not _map(files)


@pytest.mark.parametrize("max_tokens", [-1, 0, 1])
def test_no_room_is_no_text(max_tokens: int) -> None:
    assert not _map(_SHOP, max_tokens)


def test_an_edit_inside_a_body_changes_nothing() -> None:
    edited = dict(_SHOP)
    edited["shop/stock.py"] = (
        "# A comment.\n\n\nclass Stock:\n    '''All there is.'''\n    def take(self, n):\n"
        "        if n > 1:\n            return [self.take(1) for _ in range(n)]\n\n"
        "    def _count(self): return 7\n\ndef audit(): # slowly\n    SUM = 0\n    return report()\n"
    )
    edited["README.md"] = "# Shop, better\n"
    for room in (20, 30, 40, _PLENTY):
        assert _map(edited, room) == _map(_SHOP, room)


_names = st.sampled_from(["run", "Stock", "take", "_hidden", "LIMIT", "main"])
_lines = st.one_of(
    _names.map("def {}(a, b): pass\n".format),
    _names.map("class {}:\n    def inside(self): pass\n".format),
    _names.map("{}()\n".format),
    _names.map("from x import {}\n".format),
    _names.map("{} = 1\n".format),
    st.just("def broken(:\n"),
)
_texts = st.dictionaries(
    st.sampled_from(["a.py", "b.py", "b/c.py", "b/a.py", "d.pyi", "é.py", "z.md"]),
    st.lists(_lines, max_size=6).map("".join),
)


@settings(max_examples=25, deadline=None)
@given(files=_texts, room=st.integers(0, 120), data=st.data())
def test_any_texts_in_any_order_within_any_budget(
    files: dict[str, str], room: int, data: st.DataObject
) -> None:
    texts = list(files.items())
    counted: list[str] = []

    def counting(texts: Sequence[str]) -> list[int]:
        counted.extend(texts)
        return _count(texts)

    text = repo_map(texts, counting, room)
    assert text in ["", *counted]
    assert _count([text])[0] <= room or not text
    assert repo_map(data.draw(st.permutations(texts)), _count, room) == text
    full = _map(files).splitlines()
    lines = text.splitlines()
    assert [line for line in lines if line.endswith(":")] == sorted(
        {line for line in lines if line.endswith(":")}
    )
    assert all(line in full for line in lines)


def test_what_is_remembered_gives_the_same_map(monkeypatch: pytest.MonkeyPatch) -> None:
    first = _map(_SHOP, 40)
    assert _map(_SHOP, 40) == first
    for size in (0, 5_000):
        monkeypatch.setattr(build, "MEMORY", Memory(size))
        assert _map(_SHOP, 40) == first


def test_names_cannot_break_the_lines() -> None:
    files = {
        "a\nb\x1b[2J\u2028c.py": "def f(): pass\n",
        "lone\udcff.py": "def \udcff(): pass\ndef g(a='\x00\x1b\u202e'): pass\n",
        "x" * 5_000 + ".py": "def h(): pass\n",
    }
    text = _map(files)
    assert text.count("\n") == len(text.splitlines()) == 6
    assert all(line.isprintable() for line in text.splitlines())
    assert text.startswith("a b[2J c.py:\n def f()\nlone.py:\n def g(a='')\nxxx")
    assert max(map(len, text.splitlines())) < 500
    text.encode()


def test_a_path_that_comes_twice_stands_once_whatever_the_order() -> None:
    texts = [("a.py", "def f(): pass\n"), ("a.py", "def g(): pass\n")]
    assert repo_map(texts, _count, _PLENTY) == repo_map(texts[::-1], _count, _PLENTY) == "a.py:\n def g()\n"


def test_large_files_are_passed_over() -> None:
    large = "def f(): pass\n" + "#" * build.MAX_FILE_BYTES
    wide = "def f(): pass\n" + "#é" * (build.MAX_FILE_BYTES // 3)
    assert _map({"a.py": large, "b.py": wide, "c.py": "def f(): pass\n"}) == "c.py:\n def f()\n"


def test_all_bytes_and_all_definitions_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = ["a.py", "b.py", "c.py"]
    files = dict.fromkeys(names, "def f(): pass\ndef g(): pass\n")
    one = "a.py:\n def f()\n def g()\n"
    with monkeypatch.context() as patch:
        patch.setattr(build, "MAX_TOTAL_BYTES", 55)
        assert _map(files) == one
        assert _map({**files, "d.py": "def h(): 0\n"}) == one + "d.py:\n def h()\n"
    with monkeypatch.context() as patch:
        patch.setattr(build, "MAX_TOTAL_DEFINITIONS", 3)
        assert _map(files) == one


def test_texts_that_kill_the_parser_do_not_stop_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "MAX_GIVEN_UP", 1)
    killer = "x=>" * 10_000
    files = {"a.c": killer, "b.c": "int f(void);\n", "c.c": killer + " ", "d.c": "int g(void);\n"}
    assert _map(files) == "b.c:\n int f(void)\n"
    del files["c.c"]
    assert _map(files) == "b.c:\n int f(void)\nd.c:\n int g(void)\n"


def test_without_a_parser_there_is_no_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessiond.daemon.workspace.repo_map.parser.sys.executable", "/nowhere/python")
    assert not _map({"a.py": "def never_seen_before(): pass\n"})


def test_thousands_of_files() -> None:
    files = {
        f"d{number % 50}/f{number}.py": f"def f{number}(): f{number // 2}()\n" for number in range(3_000)
    }
    calls: list[int] = []

    def counting(texts: Sequence[str]) -> list[int]:
        calls.append(len(texts))
        return _count(texts)

    text = repo_map(list(files.items()), counting, 2_000)
    assert 1_900 < _count([text])[0] <= 2_000
    assert len(calls) <= 8


def test_what_the_counter_raises_goes_through() -> None:
    def fail(texts: Sequence[str]) -> list[int]:
        raise RuntimeError("the engine ended")

    with pytest.raises(RuntimeError, match="the engine ended"):
        repo_map(list(_SHOP.items()), fail, 100)
