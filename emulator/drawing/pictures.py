"""One picture from a prompt: composed, marked and encoded."""

import hashlib
import json
import random
import re
from dataclasses import dataclass, replace

from PIL import Image, ImageChops

from emulator.drawing import label, palettes, scenes, subjects
from emulator.drawing.animation import encode_gif
from emulator.drawing.canvas import Canvas
from emulator.drawing.editing import Inputs, edited
from emulator.drawing.encoding import encode
from emulator.drawing.palettes import Palette
from emulator.drawing.scenes import Scene
from emulator.drawing.subjects import Subject
from emulator.drawing.vector import VectorCanvas


@dataclass(frozen=True, slots=True)
class PictureSpec:
    """What decides every byte of a picture.

    Attributes:
        index: which of the n pictures of one request.
        seed: of the request or the server; 0 where none was given.
        output_format: `png`, `jpeg`, `webp`, `gif` or `svg`.
        compression: 0 to 100, for `jpeg` and `webp`.
        partials: how many previews to make on the way.
        frames: of a `gif`.
        frame_ms: how long each frame of a `gif` is shown; a multiple of 10.
    """

    prompt: str
    width: int
    height: int
    index: int = 0
    seed: int = 0
    transparent: bool = False
    output_format: str = "png"
    compression: int = 100
    partials: int = 0
    frames: int = 1
    frame_ms: int = 200


@dataclass(frozen=True, slots=True)
class Picture:
    """The file, its SHA-256 (hex) and its previews, coarse to fine, in the same format and size."""

    data: bytes
    sha256: str
    partials: tuple[bytes, ...] = ()


def render(spec: PictureSpec, inputs: Inputs | None = None) -> Picture:
    """Draw and encode; the same arguments give the same bytes with the same version of Pillow."""
    if spec.output_format == "svg":
        return _finished(_vectors(spec, inputs))
    if spec.output_format == "gif":
        return _finished(_animated(spec, inputs))
    image = paint(spec, inputs)
    previews = (_preview(image, step, spec) for step in range(spec.partials))
    data = encode(image, spec.output_format, spec.compression, spec.prompt)
    return Picture(data, hashlib.sha256(data).hexdigest(), tuple(previews))


def render_with_grain(spec: PictureSpec) -> Picture:
    """As `render`, with film grain: a PNG of 1024x1024 gets the 1.4 MB that a model's picture has.

    A GIF has its weight without, and an SVG has no pixels: both are as drawn.
    """
    if spec.output_format in ("gif", "svg"):
        return render(spec)
    image = paint(spec, None)
    noise = random.Random(_seed(spec, b"")).randbytes(spec.width * spec.height)  # noqa: S311 - grain, no secret
    # Some four and a half bits a pixel, around zero, the same in every channel.
    grain = Image.frombytes("L", (spec.width, spec.height), noise).point([value // 11 for value in range(256)])
    bands = image.split()
    coloured = [ImageChops.subtract(ImageChops.add(band, grain), Image.new("L", image.size, 11)) for band in bands[:3]]
    grainy = Image.merge(image.mode, [*coloured, *bands[3:]])
    data = encode(grainy, spec.output_format, spec.compression, spec.prompt)
    previews = (_preview(image, step, spec) for step in range(spec.partials))
    return Picture(data, hashlib.sha256(data).hexdigest(), tuple(previews))


def paint(spec: PictureSpec, inputs: Inputs | None) -> Image.Image:
    """The pixels, mark included: RGBA where transparency was asked for, else RGB."""
    palette, subject, scene, rng = _choices(spec, inputs)

    def alone(size: float) -> Image.Image:
        canvas = Canvas(spec.width, spec.height, transparent=True)
        subject(canvas, (0.5, 0.5), size, palette, rng)
        return canvas.finished()

    def composed() -> Image.Image:
        canvas = Canvas(spec.width, spec.height, transparent=False)
        scene(canvas, palette, subject, rng)
        return canvas.finished()

    if inputs is not None:
        image = edited(composed(), alone(0.22), inputs, transparent=spec.transparent)
        image = image if spec.transparent else image.convert("RGB")
    else:
        image = alone(0.42) if spec.transparent else composed()
    label.stamp(image, spec.prompt)
    return image


def _choices(spec: PictureSpec, inputs: Inputs | None) -> tuple[Palette, Subject, Scene, random.Random]:
    """What the prompt says the picture is made of, and the dice for the rest."""
    words = re.findall(r"[^\W\d_]+", spec.prompt.lower())
    rng = random.Random(_seed(spec, inputs.digest if inputs else b""))  # noqa: S311 - a drawing, no secret
    return palettes.choose(words, rng), subjects.choose(words, rng), scenes.choose(words, rng), rng


def _finished(data: bytes) -> Picture:
    return Picture(data, hashlib.sha256(data).hexdigest())


def _vectors(spec: PictureSpec, inputs: Inputs | None) -> bytes:
    """The scene as vectors. Of an edit's pictures only the digest and the first one's colour find their way in."""
    palette, subject, scene, rng = _choices(spec, inputs)
    canvas = VectorCanvas(spec.width, spec.height)
    scene(canvas, palette, subject, rng)
    if inputs is not None:
        colour = inputs.images[0].convert("RGB").resize((1, 1), Image.Resampling.BOX).tobytes()
        canvas.box(0, 0, 1, 0.06, (colour[0], colour[1], colour[2]))
    return canvas.document(spec.prompt)


def _animated(spec: PictureSpec, inputs: Inputs | None) -> bytes:
    palette, subject, _, rng = _choices(spec, inputs)
    side = max(8, min(spec.width, spec.height) // 4)
    canvas = Canvas(side, side, transparent=True)
    subject(canvas, (0.5, 0.5), 0.45, palette, rng)
    scene = paint(replace(spec, transparent=False), inputs)
    return encode_gif(scene, canvas.finished(), spec.frames, spec.frame_ms, f"{label.NOTICE}: {spec.prompt}")


def _seed(spec: PictureSpec, inputs_digest: bytes) -> int:
    facts = json.dumps([spec.prompt, spec.width, spec.height, spec.index, spec.seed]).encode()
    return int.from_bytes(hashlib.sha256(facts + inputs_digest).digest(), "big")


def _preview(image: Image.Image, step: int, spec: PictureSpec) -> bytes:
    """The picture as it may look before it is ready: full size, with few real pixels."""
    coarse = 48 // 2**step
    small = image.resize((max(1, spec.width // coarse), max(1, spec.height // coarse)), Image.Resampling.BOX)
    blurred = small.resize(image.size, Image.Resampling.BILINEAR)
    return encode(blurred, spec.output_format, min(spec.compression, 80), spec.prompt)


def numbered(spec: PictureSpec, count: int) -> list[PictureSpec]:
    """The specs of the `count` pictures of one request."""
    return [replace(spec, index=index) for index in range(count)]
