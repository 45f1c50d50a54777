"""Bar charts as SVG, drawn by hand: no library, and the same bytes for the same numbers."""

from xml.sax.saxutils import escape

from benchmarks.tables import Bars, shown

_WIDTH, _LEFT, _RIGHT, _BAR, _GAP = 760, 210, 80, 16, 12
_COLORS = ("#2a6f97", "#adb5bd", "#e9a03b", "#c8553d", "#6a994e", "#7b5ea7", "#4a4e69")
_FONT = 'font-family="system-ui, sans-serif" font-size="12"'


def svg(bars: Bars) -> str:
    """The chart: a heading for each group, a bar for each name in it."""
    most = max(value for group in bars.values.values() for value in group.values()) or 1.0
    names = list(dict.fromkeys(name for group in bars.values.values() for name in group))
    drawn, y = [_words(12, 22, f"{bars.title} ({bars.unit})", weight="bold")], 36
    for group, values in bars.values.items():
        y += _GAP
        drawn.append(_words(12, y + 10, group, weight="bold"))
        y += 18
        for name, value in values.items():
            drawn.append(_bar(y, name, value, most, _COLORS[names.index(name) % len(_COLORS)]))
            y += _BAR + 4
    height = y + _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img">\n'
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>\n' + "\n".join(drawn) + "\n</svg>\n"
    )


def _bar(y: int, name: str, value: float, most: float, color: str) -> str:
    length = max(1, round((_WIDTH - _LEFT - _RIGHT) * value / most))
    return (
        _words(_LEFT - 8, y + 12, name, anchor="end")
        + f'<rect x="{_LEFT}" y="{y}" width="{length}" height="{_BAR}" fill="{color}"/>'
        + _words(_LEFT + length + 6, y + 12, shown(float(value)))
    )


def _words(x: int, y: int, words: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x}" y="{y}" {_FONT} font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="#212529">{escape(words)}</text>'
    )
