"""Scalable vector graphics by hand: elements, axes and marks that can be read in light and dark, and without colours."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

SHAPES = ("circle", "square", "triangle", "diamond", "cross", "plus", "ring", "bar")
"""Each side has its own beside its colour."""
_PALE = 0.35
"""Opacity of what says little."""
_LIGHT = ("#0b62a8", "#6b6b6b", "#b34700", "#00704f", "#9c2f7f", "#7a5c00", "#b00020", "#3d4fb3")
_DARK = ("#6cb6ff", "#b0b0b0", "#ff9c5b", "#4fd1a5", "#f08fd4", "#e3c34f", "#ff8f99", "#a3b1ff")
_INK = {"paper": ("#ffffff", "#14171a"), "ink": ("#1b1f23", "#e6e6e6"), "grid": ("#d5d9dd", "#3a4046")}


def style() -> str:
    """Colours for both schemes."""

    def block(scheme: int) -> str:
        rules = [f".{name}{{fill:{pair[scheme]}}}" for name, pair in _INK.items() if name != "grid"]
        rules += [
            f".grid{{stroke:{_INK['grid'][scheme]};fill:none}}",
            f".axis{{stroke:{_INK['ink'][scheme]};fill:none}}",
        ]
        for index, color in enumerate((_LIGHT, _DARK)[scheme]):
            rules += [f".f{index}{{fill:{color}}}", f".s{index}{{stroke:{color};fill:none;stroke-width:2}}"]
        return "".join(rules)

    font = "text{font:12px system-ui,sans-serif}.small{font-size:11px}.big{font-size:15px;font-weight:600}"
    return f"<style>{font}{block(0)}@media(prefers-color-scheme:dark){{{block(1)}}}</style>"


@dataclass(slots=True)
class Drawing:
    """What is drawn, from back to front. Lengths are pixels from the upper left."""

    width: float
    height: float
    title: str
    told: str
    """What it shows, in sentences, for whoever does not see it."""
    parts: list[str] = field(default_factory=list[str])

    def text(self, x: float, y: float, what: str, *, anchor: str = "start", kind: str = "") -> None:
        """Words. `kind` is "small" or "big"."""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class={quoteattr(f"ink {kind}".strip())}>'
            f"{escape(what)}</text>"
        )

    def line(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """Straight pieces."""
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{joined}" class={quoteattr(kind)}/>')

    def rectangle(self, x: float, y: float, width: float, height: float, kind: str, told: str = "") -> None:
        """A filled one; `told` is what it says when it is pointed at."""
        inner = f"<title>{escape(told)}</title>" if told else ""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" height="{max(0.0, height):.1f}" '
            f"class={quoteattr(kind)}>{inner}</rect>"
        )

    def mark(self, x: float, y: float, index: int, told: str = "") -> None:
        """The mark of the side of that number."""
        shape = SHAPES[index % len(SHAPES)]
        open_ = shape in {"cross", "plus", "ring", "bar"}
        kind = f"{'s' if open_ else 'f'}{index % len(_LIGHT)}"
        inner = f"<title>{escape(told)}</title>" if told else ""
        self.parts.append(f'<path d="{_path(shape, x, y)}" class="{kind}">{inner}</path>')

    @contextmanager
    def pale(self) -> Generator[None]:
        """What is drawn meanwhile can be seen through."""
        self.parts.append(f'<g opacity="{_PALE}">')
        yield
        self.parts.append("</g>")

    def __str__(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" '
            f'width="{self.width:g}" height="{self.height:g}" role="img" aria-labelledby="title desc">'
            f'<title id="title">{escape(self.title)}</title><desc id="desc">{escape(self.told)}</desc>'
        )
        paper = '<rect width="100%" height="100%" class="paper"/>'
        return "\n".join([head, style(), paper, *self.parts, "</svg>", ""])


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to pixels, by their logarithms or as they are."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Values beyond the ends stand at the ends."""
        value = min(max(value, self.low), self.high)
        low, high, at = (math.log10(each) if self.log else each for each in (self.low, self.high, value))
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values between the ends."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            steps = (1, 2, 5) if last - first <= 3 else (1,)
            every = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        else:
            step = 10.0 ** math.floor(math.log10(max(self.high - self.low, 1e-9)))
            step *= 0.5 if (self.high - self.low) / step < 4 else 1.0
            every = [step * count for count in range(math.ceil(self.low / step), int(self.high / step) + 1)]
        return [value for value in every if self.low <= value <= self.high]


def around(values: Sequence[float]) -> tuple[float, float]:
    """Ends of a logarithmic scale that has room around these values."""
    least, most = min(values), max(values)
    return 10.0 ** (math.log10(least) - 0.08), 10.0 ** (math.log10(most) + 0.08)


def number(value: float) -> str:
    """As an axis tells it."""
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _path(shape: str, x: float, y: float) -> str:
    """Outline of a mark of about ten pixels."""
    r = 5.0
    paths = {
        "circle": f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0Z",
        "ring": f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0Z",
        "square": f"M{x - 4.5:.1f} {y - 4.5:.1f}h9v9h-9Z",
        "triangle": f"M{x:.1f} {y - 5.5:.1f}l5.5 10h-11Z",
        "diamond": f"M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6Z",
        "cross": f"M{x - 4:.1f} {y - 4:.1f}l8 8M{x + 4:.1f} {y - 4:.1f}l-8 8",
        "plus": f"M{x - r:.1f} {y:.1f}h{2 * r}M{x:.1f} {y - r:.1f}v{2 * r}",
        "bar": f"M{x:.1f} {y - r:.1f}v{2 * r}",
    }
    return paths[shape]
