"""No planted secret leaves a daemon: not in a prefix, not in what it says of one, not in its log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToJson
from tests.e2e.daemon import Daemon, short_folder
from tests.e2e.fresh import MODEL, assert_fresh, served, window
from tests.e2e.planted import FALSE_FRIENDS, NAMES, Mint, Planted, in_code
from tests.e2e.turns import in_background

from sessiond.client import Client, Session, SessiondError
from sessiond.daemon.workspace.wishes import NO_WISHES, Wishes
from sessiond.v1.session_service_pb2 import SESSION_STATE_CLOSED

_WINDOW = 32_768
_TOKENS = Mint(1).tokens()
_CLEAN = "def first(value):\n    return value\n"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One that logs all it can."""
    with short_folder() as folder, Daemon(folder, MODEL, "--log-level", "debug") as running:
        yield running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace with nothing in it that may not be seen, and an outline."""
    made = tmp_path / "root"
    _write(made / ".sessiond.toml", "[map]\nenabled = true\n")
    _write(made / "src/clean.py", _CLEAN)
    return made


@pytest.fixture
def session(client: Client, root: Path) -> Iterator[Session]:
    """A session over it."""
    opened = client.open_session(workspace_root=root, config=window(_WINDOW))
    yield opened
    if opened.info().state != SESSION_STATE_CLOSED:
        opened.close()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _all_that_is_said(session: Session, root: Path, daemon: Daemon, wishes: Wishes = NO_WISHES) -> str:
    """The prefix that is served, and every word that the daemon says of it."""
    text = assert_fresh(session, root, _WINDOW, wishes)[1]
    messages = (session.explain(), daemon.client.workspace(root).get(), session.info())
    return "\n".join([text, *(MessageToJson(message) for message in messages), daemon.log_text()])


def _assert_silent(planted: list[Planted], said: str) -> None:
    assert [each.name for each in planted if each.value in said] == []
    assert [each.name for each in planted if json.dumps(each.value)[1:-1] in said] == []


def test_the_corpus_would_be_found_if_it_were_said(session: Session, root: Path, daemon: Daemon) -> None:
    _write(root / "word.txt", "an-ordinary-word")
    with pytest.raises(AssertionError):
        _assert_silent([Planted("", "", "an-ordinary-word")], _all_that_is_said(session, root, daemon))
    assert len({each.value for each in _TOKENS}) > 90


@pytest.mark.parametrize("dressed", ["alone", "in code", "in a string", "in json"])
def test_a_secret_in_a_file(session: Session, root: Path, daemon: Daemon, dressed: str) -> None:
    for number, each in enumerate(_TOKENS):
        escaped = each.text.replace("\n", "\\n")
        text = {
            "alone": each.text,
            "in code": in_code(each.text),
            "in a string": f'text = "\\n\\t{escaped}"\n',
            "in json": json.dumps({"text": f"one\n{each.text}"}),
        }[dressed]
        _write(root / f"src/part{number}.py", text)
    said = _all_that_is_said(session, root, daemon)
    _assert_silent(_TOKENS, said)
    assert served(session).keys() == {"map", ".sessiond.toml", "src/clean.py"}
    secret = [each for each in session.explain().left_out if each.reason == "secret"]
    assert len(secret) == len(_TOKENS)


def test_files_that_are_there_to_hold_secrets(session: Session, root: Path, daemon: Daemon) -> None:
    mint = Mint(2)
    planted = [Planted(name, "", f"value-{mint.password()}") for name in NAMES]
    for number, each in enumerate(planted):
        _write(root / f"d{number}" / each.name, f"DB_PASSWORD={each.value}\n")
    _assert_silent(planted, _all_that_is_said(session, root, daemon))
    assert served(session).keys() == {"map", ".sessiond.toml", "src/clean.py"}


def test_what_links_lead_to(session: Session, root: Path, daemon: Daemon, tmp_path: Path) -> None:
    planted = [Planted("outside", "", "value-" + Mint(3).password()), *_TOKENS[:5]]
    _write(tmp_path / "outside/plain.txt", planted[0].value)
    _write(root / ".env", planted[0].value)
    (root / "notes.txt").symlink_to(".env")
    (root / "foreign.txt").symlink_to(tmp_path / "outside/plain.txt")
    (root / "folder").symlink_to(tmp_path / "outside")
    for number, each in enumerate(planted[1:]):
        _write(root / f"kept/part{number}.py", each.text)
        (root / f"link{number}.py").symlink_to(f"kept/part{number}.py")
        (root / f"hard{number}.py").hardlink_to(root / f"kept/part{number}.py")
    daemon.client.workspace(root).pin("notes.txt", "foreign.txt", "folder/plain.txt", "link0.py", "hard0.py")
    wishes = Wishes(pinned=("notes.txt", "foreign.txt", "folder/plain.txt", "link0.py", "hard0.py"))
    _assert_silent(planted, _all_that_is_said(session, root, daemon, wishes))
    assert served(session).keys() == {"map", ".sessiond.toml", "src/clean.py"}


def test_unsaved_buffers_and_pins(session: Session, root: Path, daemon: Daemon) -> None:
    hidden = Planted("name", "", "value-" + Mint(4).password())
    buffers = {f"src/unsaved{number}.py": in_code(each.text) for number, each in enumerate(_TOKENS)}
    buffers |= {
        "src/clean.py": f"# {_TOKENS[0].text}\n",
        ".env": hidden.value,
        "deep/.env.local": hidden.value,
    }
    workspace = daemon.client.workspace(root)
    for path, text in buffers.items():
        workspace.set_buffer(path, text)
    pins = (".env", "src/unsaved0.py", "src/clean.py", "deep/.env.local")
    workspace.pin(*pins)
    said = _all_that_is_said(session, root, daemon, Wishes(pinned=pins, buffers=buffers))
    _assert_silent([hidden, *_TOKENS], said)
    assert served(session).keys() == {".sessiond.toml"}


@pytest.mark.parametrize("named", ["AGENTS.md", "docs/RULES.md", ".env", "README.md"])
def test_instructions_and_configuration(session: Session, root: Path, daemon: Daemon, named: str) -> None:
    token, number = _TOKENS[2], Planted("name", "", "value-" + Mint(5).password())
    _write(root / named, f"Always say {token.text}, and {number.value}.\n")
    faults = ("", f"order = '{token.value}'\n", f"{token.value} = 1\n", f"exclude = ['{token.value}\n")
    for fault in faults:
        _write(root / ".sessiond.toml", f"instructions = '{named}'\npinned = ['{named}']\n{fault}")
        _assert_silent([token, number], _all_that_is_said(session, root, daemon))


def test_a_secret_in_a_signature_or_a_path(session: Session, root: Path, daemon: Daemon) -> None:
    token = next(each for each in _TOKENS if each.name == "github")
    _write(root / "src/api.py", f"def connect(host, token='{token.value}'):\n    return host\n")
    _write(root / f"src/{token.value}.py", "def in_a_path():\n    return 1\n")
    _write(root / f"{token.value}/inner.py", "def in_a_path_too():\n    return 1\n")
    text = assert_fresh(session, root, _WINDOW)[1]
    assert token.value not in text
    assert "connect" not in text and "in_a_path" not in text and "first" in text


def test_a_secret_that_comes_and_goes_in_a_file_that_was_served(
    session: Session, root: Path, daemon: Daemon
) -> None:
    file = root / "src/clean.py"
    _write(root / "src/later.py", "behind = True\n")
    heard: list[str] = []
    misses: set[str] = set()

    def listen() -> None:
        heard.extend(MessageToJson(event) for event in session.watch(timeout=60))

    with in_background(listen) as listening:
        try:
            for each in _TOKENS[::4]:
                for text in (in_code(each.text) + _CLEAN, _CLEAN):
                    _write(file, text)
                    _assert_silent(_TOKENS, _all_that_is_said(session, root, daemon))
                    misses.add(session.explain().last_miss.cause)
        finally:
            session.close()
        listening.result(20)
    assert "inserted" in misses
    _assert_silent(_TOKENS, "\n".join([*heard, daemon.log_text()]))
    assert heard


def test_what_is_refused_quotes_nothing(session: Session, root: Path, daemon: Daemon) -> None:
    token = _TOKENS[4].value
    workspace = daemon.client.workspace(root)
    told: list[str] = []
    for path, text in (("a.py", token + "\0"), ("a.py", token * 20_000), ("../a", token)):
        with pytest.raises(SessiondError) as caught:
            workspace.set_buffer(path, text)
        told.append(str(caught.value))
    _assert_silent(_TOKENS, "\n".join([*told, daemon.log_text()]))


def test_what_only_looks_like_a_secret_goes_in(session: Session, root: Path, daemon: Daemon) -> None:
    for path, text in FALSE_FRIENDS.items():
        _write(root / path, text)
    assert_fresh(session, root, _WINDOW)
    assert served(session).keys() >= FALSE_FRIENDS.keys()
    assert list(session.explain().left_out) == []
