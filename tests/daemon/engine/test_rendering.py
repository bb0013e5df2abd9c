"""Templates in a process of their own: one that goes beyond its limits ends in a typed error, and the next one is served."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sessiond.adapters.base import BackendError
from sessiond.daemon.engine import rendering
from sessiond.daemon.engine.frames import NAMED, FrameError, frame
from sessiond.daemon.engine.rendering import PATIENCE, Renderer
from sessiond.daemon.sessions.suffix import MAX_ROLES

_TEMPLATES = Path(__file__).parents[1] / "sessions" / "templates"

_KEPT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
_ROLES = ["user", "assistant", "user"]

# Each is refused by itself, or ends the process.
HOSTILE = {
    "a long text": "{{ 'a' * 10**9 }}",
    "a longer text": "{{ ('a' * 10**4) * 10**9 }}",
    "a large number": "{{ 9 ** (9 ** 9) }}",
    "a list": "{% set a = [0] * 10**9 %}",
    "loops in loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "text in loops": "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "a macro that calls itself": "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "two that double": "{% macro f(n) %}{% if n %}{{ f(n - 1) + f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "a format": "{{ '%1000000000d' % 1 }}",
    "a method's format": "{{ '{:1000000000}'.format(1) }}",
    "padding": "{{ 'a'.ljust(10**9) }}",
    "a filter": "{{ 'a' | center(10**9) }}",
    "replacements": "{{ ('a' * 50000).replace('a', 'a' * 50000) }}",
    "a join": "{{ range(99999) | join('a' * 99999) }}",
    "a growing text": "{% set ns = namespace(a='aa') %}{% for i in range(64) %}{% set ns.a = ns.a + ns.a %}{% endfor %}",
    "much output": "{% for a in range(9999) %}{{ 'a' * 9999 }}{% endfor %}",
    "attributes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "a path": "{% include '/etc/passwd' %}",
}


@pytest.fixture
def renderer() -> Iterator[Renderer]:
    made = Renderer()
    yield made
    made.close()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_ends_in_an_error(renderer: Renderer, name: str) -> None:
    with pytest.raises(FrameError):
        renderer.frame(HOSTILE[name] + _KEPT, _ROLES, "", "")
    assert renderer.frame(_KEPT, _ROLES, "", "") == frame(_KEPT, _ROLES, "")


def test_a_template_that_kills_again_and_again_is_refused_unread(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = 0
    start = rendering._start

    def counted() -> object:
        nonlocal starts
        starts += 1
        return start()

    monkeypatch.setattr(rendering, "_start", counted)
    for _ in range(PATIENCE + 3):
        with pytest.raises(FrameError, match="too much"):
            renderer.frame(HOSTILE["loops in loops"], ["user"], "", "")
    assert starts == PATIENCE
    assert renderer.frame(_KEPT, _ROLES, "", "") == frame(_KEPT, _ROLES, "")


def test_a_process_that_was_killed_is_started_again(renderer: Renderer) -> None:
    before = set(psutil.Process().children())
    for _ in range(PATIENCE + 1):
        assert renderer.frame(_KEPT, _ROLES, "", "") == frame(_KEPT, _ROLES, "")
        [process] = set(psutil.Process().children()) - before
        process.kill()
        process.wait()


def test_what_is_too_much_for_many_messages_is_not_for_few(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "PATIENCE", 1)
    loop, end = "{% for a in messages %}", "{% endfor %}"
    cubed = f"{loop}{loop}{loop}{end}{end}{end}{_KEPT}"
    many = ["user"] * (MAX_ROLES - 1)
    for roles in (many, many, [*many, "user"]):
        with pytest.raises(FrameError, match="too much"):
            renderer.frame(cubed, roles, "", "")
    assert renderer.frame(cubed, ["user"], "", "") == frame(cubed, ["user"], "")


def test_an_end_is_forgiven_once_the_template_framed_as_many_messages(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = renderer._ask
    for _ in range(PATIENCE):
        # As if somebody had killed it in the midst of a question, which a template cannot be told from.
        monkeypatch.setattr(renderer, "_ask", lambda _question: None)
        for _ in range(PATIENCE - 1):
            with pytest.raises(FrameError, match="too much"):
                renderer.frame(_KEPT, _ROLES, "", "")
        monkeypatch.setattr(renderer, "_ask", ask)
        assert renderer.frame(_KEPT, _ROLES, "", "") == frame(_KEPT, _ROLES, "")


def test_a_machine_without_room_for_a_process_is_no_fault_of_the_template(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_more: object) -> None:
        raise BlockingIOError("no more processes")

    with monkeypatch.context() as full:
        full.setattr(subprocess, "Popen", refuse)
        for _ in range(PATIENCE + 1):
            with pytest.raises(BackendError, match="no more processes"):
                renderer.frame(_KEPT, _ROLES, "", "")
    assert renderer.frame(_KEPT, _ROLES, "", "") == frame(_KEPT, _ROLES, "")


def test_our_own_templates_need_no_process(renderer: Renderer) -> None:
    before = set(psutil.Process().children())
    for source in ("", NAMED["chatml"]):
        assert renderer.frame(source, _ROLES, "</s>", "<s>") == frame(source, _ROLES, "</s>", "<s>")
    assert set(psutil.Process().children()) == before


@pytest.mark.parametrize("path", sorted(_TEMPLATES.glob("*.jinja")), ids=lambda path: path.stem)
def test_the_longest_conversation_is_within_the_limits(renderer: Renderer, path: Path) -> None:
    roles = ["system", *["user", "assistant"] * (MAX_ROLES // 2 - 1), "user"]
    pieces = renderer.frame(path.read_text(), roles, "</s>", "<s>")
    assert len(pieces) == MAX_ROLES + 1


def test_texts_of_every_kind_come_through(renderer: Renderer) -> None:
    source = _KEPT + "{{ eos_token if add_generation_prompt }}\n\t\u2028é😒\\"
    assert renderer.frame(source, ["user"], "</s>\n", "<s>")[-1] == "</s>\n\n\t\u2028é😒\\"
