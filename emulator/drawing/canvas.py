"""A drawing surface in relative units, so that one composition fits every size and aspect ratio."""

import math
import random
from collections.abc import Iterable, Sequence

from PIL import Image, ImageDraw

from emulator.drawing.palettes import Colour

Ink = Colour | tuple[int, int, int, int]
Point = tuple[float, float]

# Shapes have no anti-aliasing in Pillow: they are drawn larger and scaled down, within this budget of pixels.
_SUPERSAMPLE = 2
_MAX_CANVAS_PIXELS = 4_500_000


class Canvas:
    """x and y run from 0 to 1 over the picture; lengths are in units of its shorter edge.

    On an opaque canvas (mode RGB) an ink with four channels is blended; on a transparent one (RGBA) it is laid down
    as it is, so subjects use opaque inks only.
    """

    def __init__(self, width: int, height: int, *, transparent: bool) -> None:
        self.target = (width, height)
        scale = min(_SUPERSAMPLE, math.sqrt(_MAX_CANVAS_PIXELS / (width * height)))
        self.width, self.height = max(1, round(width * scale)), max(1, round(height * scale))
        self.unit = min(self.width, self.height)
        mode, ground = ("RGBA", (0, 0, 0, 0)) if transparent else ("RGB", (0, 0, 0))
        self.image = Image.new(mode, (self.width, self.height), ground)
        self.draw = ImageDraw.Draw(self.image, "RGBA")

    def finished(self) -> Image.Image:
        """The picture at the size that was asked for."""
        if self.image.size == self.target:
            return self.image
        if self.image.size == (2 * self.target[0], 2 * self.target[1]):
            return self.image.reduce(2)
        return self.image.resize(self.target, Image.Resampling.BILINEAR)

    def gradient(self, stops: Sequence[Colour], top: float = 0.0, bottom: float = 1.0) -> None:
        """Fill a band over the whole width with a smooth run of colours from `top` to `bottom`."""
        first, last = round(top * self.height), round(bottom * self.height)
        if last <= first:
            return
        strip = Image.new("RGB", (1, len(stops)))
        strip.putdata(list(stops))
        # The strip's own end rows are not stretched: half a stop is cut off at each end.
        box = (0, 0.5, 1, len(stops) - 0.5)
        band = strip.resize((1, last - first), Image.Resampling.BILINEAR, box=box)
        self.image.paste(band.resize((self.width, last - first), Image.Resampling.NEAREST), (0, first))

    def polygon(self, points: Iterable[Point], ink: Ink) -> None:
        """A filled shape between points of the picture."""
        self.draw.polygon([(x * self.width, y * self.height) for x, y in points], fill=ink)

    def shape(self, centre: Point, size: float, points: Iterable[Point], ink: Ink) -> None:
        """A polygon around `centre`, its points in multiples of `size` (square, whatever the picture's ratio)."""
        x0, y0, step = centre[0] * self.width, centre[1] * self.height, size * self.unit
        self.draw.polygon([(x0 + x * step, y0 + y * step) for x, y in points], fill=ink)

    def disc(self, centre: Point, radius: float, ink: Ink, squash: float = 1.0) -> None:
        """A filled circle; `squash` flattens it."""
        self.draw.ellipse(self._box(centre, radius, squash), fill=ink)

    def pie(self, centre: Point, radius: float, start: float, end: float, ink: Ink) -> None:
        """A slice of a circle, in degrees clockwise from the right."""
        self.draw.pieslice(self._box(centre, radius, 1.0), start, end, fill=ink)

    def ring(self, centre: Point, radius: float, thickness: float, ink: Ink, squash: float = 1.0) -> None:
        """The outline of a circle."""
        width = max(1, round(thickness * self.unit))
        self.draw.ellipse(self._box(centre, radius, squash), outline=ink, width=width)

    def box(self, left: float, top: float, right: float, bottom: float, ink: Ink) -> None:
        """A filled rectangle."""
        self.draw.rectangle(
            (left * self.width, top * self.height, right * self.width - 1, bottom * self.height - 1), fill=ink
        )

    def glow(self, centre: Point, radius: float, ink: Colour, strength: int = 40) -> None:
        """Soft light around a point, as rings that grow fainter; for opaque canvases."""
        for step in range(9, 0, -1):
            self.disc(centre, radius * (1 + step * 0.18), (*ink, max(4, strength // (step + 2))))

    def ridge(self, height: float, swing: float, rng: random.Random, ink: Ink, roughness: float = 0.5) -> None:
        """Land from `height` down to the lower edge, its skyline a sum of waves `swing` high."""
        waves = [
            (rng.uniform(0.6, 1.4) * 2**octave, rng.uniform(0, math.tau), roughness**octave) for octave in range(4)
        ]
        total = sum(amplitude for _, _, amplitude in waves)
        points: list[Point] = [(0.0, 1.01)]
        for step in range(97):
            x = step / 96
            level = sum(a * math.sin(math.tau * f * x + phase) for f, phase, a in waves) / total
            points.append((x, height + swing * level))
        self.polygon([*points, (1.0, 1.01)], ink)

    def _box(self, centre: Point, radius: float, squash: float) -> tuple[float, float, float, float]:
        x, y, r = centre[0] * self.width, centre[1] * self.height, radius * self.unit
        return x - r, y - r * squash, x + r, y + r * squash
