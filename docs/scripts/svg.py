"""What the drawn pictures share: a card whose colors follow the reader's light or dark mode."""

from __future__ import annotations

from html import escape

_LIGHT = {
    "card": ("#ffffff", "#d0d7de"),
    "panel": ("#f6f8fa", "#d0d7de"),
    "ink": ("#1f2328", "none"),
    "muted": ("#59636e", "none"),
    "accent": ("#0b6e4f", "none"),
    "soft": ("#7fb8a4", "none"),
    "gray": ("#b6bec8", "none"),
    "bad": ("#cf222e", "none"),
    "on-accent": ("#ffffff", "none"),
    "grid": ("none", "#e4e7eb"),
    "edge": ("none", "#8c96a3"),
    "line-accent": ("none", "#0b6e4f"),
    "line-gray": ("none", "#9aa4b0"),
}
_DARK = {
    "card": ("#0d1117", "#30363d"),
    "panel": ("#161b22", "#30363d"),
    "ink": ("#e6edf3", "none"),
    "muted": ("#9198a1", "none"),
    "accent": ("#3fbf8f", "none"),
    "soft": ("#226b52", "none"),
    "gray": ("#525c69", "none"),
    "bad": ("#f85149", "none"),
    "on-accent": ("#04130d", "none"),
    "grid": ("none", "#262c35"),
    "edge": ("none", "#6e7681"),
    "line-accent": ("none", "#3fbf8f"),
    "line-gray": ("none", "#7d8794"),
}
_FONT = "-apple-system, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', Helvetica, Arial, sans-serif"


def document(width: float, height: float, title: str, parts: list[str]) -> str:
    """Return a whole picture: the parts on a card with round corners."""
    rules = _rules(_LIGHT) + "@media (prefers-color-scheme: dark) {" + _rules(_DARK) + "}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
            f'width="{width:g}" height="{height:g}" font-family="{_FONT}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{rules}</style>",
            box(0.5, 0.5, width - 1, height - 1, "card", radius=8),
            *parts,
            "</svg>",
            "",
        ]
    )


def box(x: float, y: float, width: float, height: float, color: str, radius: float = 3) -> str:
    """Return a rectangle."""
    return (
        f'<rect class="{color}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" rx="{radius:g}"/>'
    )


def text(
    x: float,
    y: float,
    words: str,
    color: str = "ink",
    *,
    size: float = 13,
    anchor: str = "start",
    bold: bool = False,
) -> str:
    """Return a line of text; ``y`` is its base line."""
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text class="{color}" x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" '
        f'text-anchor="{anchor}"{weight}>{escape(words)}</text>'
    )


def line(x1: float, y1: float, x2: float, y2: float, color: str = "grid") -> str:
    """Return a thin line."""
    return f'<line class="{color}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def path(points: str, color: str, *, width: float = 1.5, dashes: str = "") -> str:
    """Return a curve."""
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<path class="{color}" d="{points}" stroke-width="{width:g}"{dashed}/>'


def _rules(palette: dict[str, tuple[str, str]]) -> str:
    return "".join(
        f".{name}{{fill:{fill};stroke:{stroke}}}" for name, (fill, stroke) in palette.items()
    )
