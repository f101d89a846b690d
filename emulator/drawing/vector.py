"""The same compositions as vectors: one SVG document, without script, style sheet, link or outside reference."""

import math
from collections.abc import Iterable, Sequence
from html import escape

from emulator.drawing.canvas import Canvas, Ink, Point
from emulator.drawing.label import NOTICE, drawable
from emulator.drawing.palettes import Colour

_TITLE_LETTERS = 200


class VectorCanvas(Canvas):
    """A canvas that keeps what is drawn on it as elements, in pixels of the picture."""

    def __init__(self, width: int, height: int) -> None:
        self.target = (width, height)
        self.width, self.height = width, height
        self.unit = min(width, height)
        self._elements: list[str] = []
        self._gradients: list[str] = []

    def gradient(self, stops: Sequence[Colour], top: float = 0.0, bottom: float = 1.0) -> None:
        """A rectangle filled with a gradient of its own."""
        if bottom <= top:
            return
        name, last = f"g{len(self._gradients)}", max(1, len(stops) - 1)
        colours = "".join(
            f'<stop offset="{_number(index / last)}" stop-color="{_hex(colour)}"/>'
            for index, colour in enumerate(stops)
        )
        self._gradients.append(f'<linearGradient id="{name}" x1="0" y1="0" x2="0" y2="1">{colours}</linearGradient>')
        y, height = _number(top * self.height), _number((bottom - top) * self.height)
        self._elements.append(f'<rect x="0" y="{y}" width="{self.width}" height="{height}" fill="url(#{name})"/>')

    def polygon(self, points: Iterable[Point], ink: Ink) -> None:
        """A filled shape."""
        self._polygon(((x * self.width, y * self.height) for x, y in points), ink)

    def shape(self, centre: Point, size: float, points: Iterable[Point], ink: Ink) -> None:
        """A polygon around `centre`."""
        x0, y0, step = centre[0] * self.width, centre[1] * self.height, size * self.unit
        self._polygon(((x0 + x * step, y0 + y * step) for x, y in points), ink)

    def disc(self, centre: Point, radius: float, ink: Ink, squash: float = 1.0) -> None:
        """An ellipse."""
        self._elements.append(f"<ellipse {self._round(centre, radius, squash)} {_fill(ink)}/>")

    def pie(self, centre: Point, radius: float, start: float, end: float, ink: Ink) -> None:
        """A slice, or the whole disc."""
        if end - start >= 360:
            self.disc(centre, radius, ink)
            return
        x, y, r = centre[0] * self.width, centre[1] * self.height, radius * self.unit
        corners = [(x + r * math.cos(math.radians(a)), y + r * math.sin(math.radians(a))) for a in (start, end)]
        (x1, y1), (x2, y2) = [(_number(a), _number(b)) for a, b in corners]
        large, reach = int(end - start > 180), _number(r)
        path = f"M{_number(x)} {_number(y)}L{x1} {y1}A{reach} {reach} 0 {large} 1 {x2} {y2}Z"
        self._elements.append(f'<path d="{path}" {_fill(ink)}/>')

    def ring(self, centre: Point, radius: float, thickness: float, ink: Ink, squash: float = 1.0) -> None:
        """An ellipse without filling."""
        pen = _fill(ink).replace("fill", "stroke")
        width = _number(max(1.0, thickness * self.unit))
        shape = self._round(centre, radius, squash)
        self._elements.append(f'<ellipse {shape} fill="none" {pen} stroke-width="{width}"/>')

    def box(self, left: float, top: float, right: float, bottom: float, ink: Ink) -> None:
        """A rectangle."""
        x, y = _number(left * self.width), _number(top * self.height)
        wide, high = _number((right - left) * self.width), _number((bottom - top) * self.height)
        self._elements.append(f'<rect x="{x}" y="{y}" width="{wide}" height="{high}" {_fill(ink)}/>')

    def document(self, prompt: str) -> bytes:
        """The whole SVG file, with the notice in the picture and in its title and description."""
        width, height = self.target
        told = escape("".join(letter if letter.isprintable() else " " for letter in prompt[:_TITLE_LETTERS]))
        text = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img">'
            f"<title>{escape(NOTICE)}</title><desc>{told}</desc><defs>{''.join(self._gradients)}</defs>"
            f"{''.join(self._elements)}{self._label(prompt)}</svg>\n"
        )
        return text.encode("utf-8", "replace")

    def _label(self, prompt: str) -> str:
        size = max(11, round(self.unit * 0.02))
        x, y = size, self.height - round(size * 4.5)
        lines = "".join(
            f'<text x="{2 * x}" y="{y + round(size * (1.4 + 1.3 * index))}" fill="#fff">{escape(line)}</text>'
            for index, line in enumerate((NOTICE, drawable(prompt)))
        )
        ground = f'<rect x="{x}" y="{y}" width="{26 * size}" height="{round(3.5 * size)}" rx="{size // 2}"'
        return f'<g font-family="sans-serif" font-size="{size}">{ground} fill="#0c0e18" fill-opacity=".8"/>{lines}</g>'

    def _polygon(self, points: Iterable[Point], ink: Ink) -> None:
        corners = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        self._elements.append(f'<polygon points="{corners}" {_fill(ink)}/>')

    def _round(self, centre: Point, radius: float, squash: float) -> str:
        x, y, r = centre[0] * self.width, centre[1] * self.height, radius * self.unit
        return f'cx="{_number(x)}" cy="{_number(y)}" rx="{_number(r)}" ry="{_number(r * squash)}"'


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if abs(value) >= 10 else f"{value:.3f}".rstrip("0").removesuffix(".")


def _hex(ink: Ink) -> str:
    return "#{:02x}{:02x}{:02x}".format(*ink[:3])


def _fill(ink: Ink) -> str:
    opacity = f' fill-opacity="{_number(ink[3] / 255)}"' if len(ink) == 4 and ink[3] < 255 else ""
    return f'fill="{_hex(ink)}"{opacity}'
