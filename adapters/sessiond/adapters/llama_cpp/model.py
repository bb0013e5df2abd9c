"""A loaded GGUF model."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.metadata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sessiond.adapters.base import (
    BackendError,
    Capabilities,
    ContextSettings,
    ModelFacts,
    ModelLoadError,
    ModelSettings,
    Sampling,
    SettingsError,
    Unsupported,
)
from sessiond.adapters.base.grammar import Automata, Guard, Pieces
from sessiond.adapters.llama_cpp.context import LlamaContext
from sessiond.adapters.llama_cpp.deterministic import Deterministic
from sessiond.adapters.llama_cpp.devices import device_names, free_gpu_memory
from sessiond.adapters.llama_cpp.embedder import POOLINGS, LlamaEmbedder
from sessiond.adapters.llama_cpp.gguf_head import check_model_file, file_digest
from sessiond.adapters.llama_cpp.library import forget_log, last_words, library
from sessiond.adapters.llama_cpp.padded import PaddedContext
from sessiond.adapters.llama_cpp.sampler import SamplerChain
from sessiond.adapters.llama_cpp.shape import KvShape, find_shape
from sessiond.adapters.llama_cpp.stateful import StatefulContext
from sessiond.adapters.llama_cpp.tuning import ModelDefaults, resolve, variants
from sessiond.adapters.llama_cpp.vocab import Vocab

BACKEND = "llama.cpp"
ROPE_FREQ_BASE = 10_000.0
"""What llama.cpp takes where a file does not say."""

AnyContext = TypeVar("AnyContext", bound=LlamaContext)


class LlamaModel:
    """See `sessiond.adapters.base.Model`."""

    def __init__(self, path: str, settings: ModelSettings, progress: Callable[[float], None]) -> None:
        check_model_file(path)
        low = self._low = library()
        params, self._kept_alive = _params(settings, progress)
        forget_log()
        self._native = low.llama_model_load_from_file(path.encode(), params)
        if not self._native:
            raise ModelLoadError(f"llama.cpp cannot load {path}: {last_words() or 'no reason given'}")
        self._contexts: list[LlamaContext] = []
        self._embedders: list[LlamaEmbedder] = []
        self._loras = [self._lora(lora.path) for lora in settings.loras]
        self._settings = settings
        self._automata = Automata()
        self._all_pieces: Pieces | None = None
        self._vocab = Vocab(self._native)
        self._on_gpu = bool(low.llama_supports_gpu_offload()) and settings.num_gpu_layers != 0
        self._trained = self._defaults()
        self._shape = find_shape(self._native, self._probe)
        self._deterministic = Deterministic(self._padded, self._vocab.facts.size, on_gpu=self._on_gpu)
        self.facts = self._facts(path)

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        """See `Model.tokenize`."""
        return self._vocab.tokenize(text, parse_special=parse_special)

    def pieces(self, tokens: Sequence[int]) -> list[bytes]:
        """See `Model.pieces`."""
        return self._vocab.pieces(tokens)

    def variants(self, settings: ContextSettings) -> Sequence[ContextSettings]:
        """See `Model.variants`."""
        if not self._shape.remembers:
            return ()  # nothing is decoded in its contexts
        return variants(settings, self._trained, on_gpu=self._on_gpu)

    def cell_bytes(self, settings: ContextSettings) -> int:
        """See `Model.cell_bytes`."""
        return self._shape.cell_bytes(resolve(settings, self._trained, on_gpu=self._on_gpu))

    def free_memory(self) -> int | None:
        """See `Model.free_memory`."""
        if not self._on_gpu:
            return None
        return free_gpu_memory(self._settings.main_gpu if self._settings.split_mode == "none" else None)

    def new_context(self, settings: ContextSettings) -> LlamaContext:
        """See `Model.new_context`."""
        resolved = resolve(settings, self._trained, on_gpu=self._on_gpu)
        if not resolved.deterministic:
            kind = StatefulContext if self._shape.recurrent else LlamaContext
            context = self._with_loras(kind(self._native, self._vocab.facts.size, resolved, self._shape))
        elif self._shape.can_cut:
            context = self._deterministic.new_context(resolved)
        else:
            raise SettingsError("deterministic", "this model's memory is not made of cells alone")
        self._contexts = [*(each for each in self._contexts if not each.closed), context]
        return context

    def _padded(self, kind: type[PaddedContext], settings: ContextSettings, row_width: int) -> PaddedContext:
        return self._with_loras(
            kind(self._native, self._vocab.facts.size, settings, self._shape, row_width=row_width)
        )

    def _with_loras(self, context: AnyContext) -> AnyContext:
        context.use_loras(self._loras, [lora.scale for lora in self._settings.loras])
        return context

    def new_sampler(self, sampling: Sampling) -> SamplerChain:
        """See `Model.new_sampler`."""
        guard = self._guard(sampling.grammar) if sampling.grammar else None
        return SamplerChain(sampling, self.facts.vocab.size, guard)

    def _guard(self, grammar: str) -> Guard:
        automaton = self._automata.of(grammar)
        if self._all_pieces is None:  # takes a fifth of a second, and most models are never asked for it
            vocab = self.facts.vocab
            self._all_pieces = Pieces(self.pieces(range(vocab.size)), vocab.end_tokens)
        return Guard(automaton, self._all_pieces)

    def new_embedder(self) -> LlamaEmbedder:
        """See `Model.new_embedder`."""
        # A low-rank adapter changes what a model says; no vector was ever trained with one here.
        if not self.facts.capabilities.embed or self._loras:
            raise Unsupported("embed")
        embedder = LlamaEmbedder(
            self._native,
            self._pooling,
            self._vocab.facts.size,
            resolve(ContextSettings(), self._trained, on_gpu=self._on_gpu),
            lambda text: self._vocab.tokenize(text, parse_special=False, whole=True),
        )
        self._embedders.append(embedder)
        return embedder

    def close(self) -> None:
        """See `Model.close`."""
        for embedder in self._embedders:
            embedder.close()
        for context in self._contexts:
            context.close()
        if self._native:
            self._low.llama_model_free(self._native)
            self._native = None

    def _lora(self, path: str) -> Any:
        check_model_file(path)
        adapter = self._low.llama_adapter_lora_init(self._native, path.encode())
        if not adapter:
            raise SettingsError("lora", f"llama.cpp cannot load {path}: {last_words()}")
        return adapter

    def _defaults(self) -> ModelDefaults:
        family = self._metadata("general.architecture")
        base = self._metadata(f"{family}.rope.freq_base")
        return ModelDefaults(
            num_ctx=int(self._low.llama_model_n_ctx_train(self._native)),
            rope_freq_base=float(base) if base else ROPE_FREQ_BASE,
            rope_freq_scale=float(self._low.llama_model_rope_freq_scale_train(self._native)) or 1.0,
        )

    def _probe(self, shape: KvShape) -> LlamaContext:
        settings = ContextSettings(num_ctx=min(64, self._trained.num_ctx))
        resolved = resolve(settings, self._trained, on_gpu=self._on_gpu)
        return LlamaContext(self._native, self._vocab.facts.size, resolved, shape)

    def _metadata(self, key: str) -> str:
        """A value of the file's metadata as text; empty if it is not there."""
        text = ctypes.create_string_buffer(256)
        found = self._low.llama_model_meta_val_str(self._native, key.encode(), text, len(text))
        return text.value.decode("utf-8", "replace") if found >= 0 else ""

    @property
    def _pooling(self) -> str:
        """How the file says that vectors are made of texts; empty if it does not."""
        family = self._metadata("general.architecture")
        return POOLINGS.get(self._metadata(f"{family}.pooling_type"), "")

    def _notes(self) -> tuple[str, ...]:
        """What there is to compute with, and what else is to be known of how it runs."""
        off = () if self._settings.extra_buffers else ("extra buffer types are off",)
        return (f"devices: {', '.join(device_names())}", *off)

    def _capabilities(self) -> Capabilities:
        # A model that was made for vectors says how they are pooled. Any decoder could be asked, and none would be of use.
        embed = bool(self._pooling) and not self._low.llama_model_has_encoder(self._native)
        if not self._shape.remembers:
            return Capabilities(session=False, embed=embed)
        return Capabilities(
            embed=embed,
            fork=self._shape.can_share,
            truncate=self._shape.can_cut,
            snapshot=self._shape.layout is not None,
            grammar=True,
            logprobs=True,
            fim=self._vocab.facts.fim is not None,
            deterministic=self._shape.can_cut,
            reports_reuse=True,
        )

    def _facts(self, path: str) -> ModelFacts:
        low = self._low
        text = ctypes.create_string_buffer(256)
        low.llama_model_desc(self._native, text, len(text))
        return ModelFacts(
            backend=BACKEND,
            backend_version=build_version(),
            description=text.value.decode("utf-8", "replace"),
            path=path,
            model_digest=file_digest(path),
            size_bytes=int(low.llama_model_size(self._native)),
            parameters=int(low.llama_model_n_params(self._native)),
            num_ctx_train=self._trained.num_ctx,
            vocab=self._vocab.facts,
            capabilities=self._capabilities(),
            notes=self._notes(),
        )


def _params(settings: ModelSettings, progress: Callable[[float], None]) -> tuple[Any, list[object]]:
    """The native parameters, and what must live as long as they are in use."""
    low = library()
    params = low.llama_model_default_params()
    params.n_gpu_layers = -1 if settings.num_gpu_layers is None else settings.num_gpu_layers
    params.main_gpu = settings.main_gpu
    if settings.split_mode:
        params.split_mode = {"none": 0, "layer": 1, "row": 2}[settings.split_mode]
    params.load_mode = {
        (False, False): low.LLAMA_LOAD_MODE_NONE,
        (True, False): low.LLAMA_LOAD_MODE_MMAP,
        (False, True): low.LLAMA_LOAD_MODE_MLOCK,
        (True, True): low.LLAMA_LOAD_MODE_MMAP_MLOCK,
    }[settings.use_mmap, settings.use_mlock]
    params.use_extra_bufts = settings.extra_buffers
    params.check_tensors = True  # a file from anywhere: numbers that are not numbers are refused
    kept: list[object] = []
    if settings.tensor_split:
        devices = int(low.llama_max_devices())
        if len(settings.tensor_split) > devices:
            raise SettingsError("tensor_split", f"at most {devices} devices are known")
        split = (ctypes.c_float * devices)(*settings.tensor_split)
        params.tensor_split = ctypes.cast(split, ctypes.POINTER(ctypes.c_float))
        kept.append(split)

    def report(share: float, _data: object) -> bool:
        progress(share)
        return True

    callback = low.llama_progress_callback(report)
    params.progress_callback = callback
    kept.append(callback)
    return params, kept


@functools.cache
def build_version() -> str:
    """Version of the binding, of llama.cpp, and a digest of the libraries: KV of one build is not another's."""
    low = library()
    told = hashlib.sha256()
    folder = Path(str(low.__file__)).parent / "lib"
    for path in sorted(folder.iterdir()):
        if path.is_file():
            told.update(path.name.encode() + b"\0" + bytes.fromhex(file_digest(str(path))))
    version = importlib.metadata.version("llama-cpp-python")
    return f"{version} ({low.llama_version().decode()}, build {told.hexdigest()[:16]})"


def load(model: str, settings: ModelSettings, progress: Callable[[float], None]) -> LlamaModel:
    """See `Adapter.load`."""
    try:
        library()
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendError(f"llama-cpp-python is not usable: {error}") from error
    return LlamaModel(str(Path(model).resolve()), settings, progress)
