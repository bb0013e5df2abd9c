"""How a context is made whose logits depend on the tokens of a sequence alone, whatever happened before.

What llama.cpp computes depends a little on the shape of the work. On a CPU its flash attention takes one of three
paths by the number of rows and cells, a matrix product with one row is another kernel than one with many, and cells
in another order, or of others in between, change the order of a sum. There are two kinds of context that avoid it:

- `shared`: many sequences. Flash attention is on, with keys and values of different types or quantized: then it has
  one path, which passes over cells of others. Cells stand in the order of positions (`ordered`).
- `single`: one sequence, in which position p is in cell p. Flash attention is off, unless the cells are quantized.

Both fill micro-batches up to a width (`padded`). Which kind and which width do it is found by trial (`trial`) when
the first such context of a model is made, on the machine and build at hand, and told as `shared/1` or `single/2` in
`ContextSettings.variant`. If none does, the context is refused: nothing is promised that was not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from sessiond.adapters.base import ContextSettings, SettingsError
from sessiond.adapters.llama_cpp.padded import PaddedContext, SharedContext, SingleContext
from sessiond.adapters.llama_cpp.trial import CELLS, WIDTHS, find_row_width
from sessiond.adapters.llama_cpp.tuning import CACHE_TYPES, DEFAULT_GRAIN

_KINDS: dict[str, type[PaddedContext]] = {"shared": SharedContext, "single": SingleContext}

Make = Callable[[type[PaddedContext], ContextSettings, int], PaddedContext]
"""Makes a context of a kind with settings and a row width."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to make a deterministic context."""

    kind: str
    width: int

    def __str__(self) -> str:
        return f"{self.kind}/{self.width}"

    def settings(self, asked: ContextSettings) -> ContextSettings:
        """The settings of a context of this variant."""
        quantized = CACHE_TYPES[asked.kv_cache_type].quantized
        flash_attn = self.kind == "shared" or quantized or bool(asked.flash_attn)
        return replace(asked, flash_attn=flash_attn, variant=str(self))


class Deterministic:
    """Makes deterministic contexts of one model, and remembers what was found for them."""

    def __init__(self, make: Make, vocab_size: int, *, on_gpu: bool) -> None:
        self._make = make
        self._vocab_size = vocab_size
        self._on_gpu = on_gpu
        self._found: dict[tuple[object, ...], Variant] = {}

    def new_context(self, settings: ContextSettings) -> PaddedContext:
        """A context with these settings, of which only attention may be open. Raises SettingsError."""
        key = (settings.flash_attn, settings.kv_cache_type, settings.num_threads, settings.num_threads_batch)
        variant = self._given(settings) or self._found.get(key)
        if variant is None:
            variant = self._found[key] = self._find(settings)
        return self._open(settings, variant)

    def _open(self, settings: ContextSettings, variant: Variant) -> PaddedContext:
        return self._make(_KINDS[variant.kind], variant.settings(settings), variant.width)

    def _given(self, settings: ContextSettings) -> Variant | None:
        """The variant that the settings name, if they could have got it from here."""
        known = (Variant(kind, width) for kind in self._kinds(settings) for width in WIDTHS)
        return next((variant for variant in known if str(variant) == settings.variant), None)

    def _kinds(self, settings: ContextSettings) -> Iterator[str]:
        # On a GPU, attention over two types of cells may be moved to the CPU, together with all cells each time.
        if settings.flash_attn is not False and not self._on_gpu:
            yield "shared"
        yield "single"

    def _find(self, settings: ContextSettings) -> Variant:
        small = replace(settings, num_ctx=CELLS, num_cells=CELLS, num_batch=CELLS, num_ubatch=DEFAULT_GRAIN)
        for kind in self._kinds(settings):
            width = find_row_width(partial(self._attempt, small, kind), self._vocab_size)
            if width is not None:
                return Variant(kind, width)
        raise SettingsError("deterministic", "this build's results depend on the shape of a batch")

    def _attempt(self, settings: ContextSettings, kind: str, width: int) -> PaddedContext:
        return self._open(settings, Variant(kind, width))
