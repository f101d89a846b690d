"""Animated GIFs: the scene stands still, its subject goes round, and a bar tells how far the loop is."""

import io
import math

from PIL import Image, ImageDraw

_COLOURS = 128
_COMMENT_LETTERS = 200


def encode_gif(scene: Image.Image, sprite: Image.Image, frames: int, frame_ms: int, comment: str) -> bytes:
    """A GIF that repeats for ever.

    Args:
        scene: RGB, marked already.
        sprite: RGBA, moved over the scene.
        frames: how many; no two are alike, as Pillow would merge those.
        frame_ms: delay of each, a multiple of 10.
        comment: its beginning is written into the file.
    """
    # One palette for all frames: colours do not flicker, and only the first frame has to be counted out.
    first = _frame(scene, sprite, 0, frames).quantize(_COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    others = [
        _frame(scene, sprite, index, frames).quantize(palette=first, dither=Image.Dither.NONE)
        for index in range(1, frames)
    ]
    file = io.BytesIO()
    first.save(
        file,
        "GIF",
        save_all=True,
        append_images=others,
        duration=frame_ms,
        loop=0,
        optimize=False,
        comment=comment[:_COMMENT_LETTERS].encode("ascii", "backslashreplace")[:255],
    )
    return file.getvalue()


def _frame(scene: Image.Image, sprite: Image.Image, index: int, frames: int) -> Image.Image:
    frame, angle = scene.copy(), math.tau * index / frames
    unit = min(scene.size)
    left = round(scene.width / 2 - sprite.width / 2 + 0.22 * unit * math.cos(angle))
    top = round(scene.height / 2 - sprite.height / 2 + 0.16 * unit * math.sin(angle))
    frame.paste(sprite, (left, top), sprite)
    done = round(scene.width * (index + 1) / frames)
    # Black and white are hardly lost in a palette of the scene's colours, and the bar is wider in every frame.
    bar = ImageDraw.Draw(frame)
    bar.rectangle((0, 0, scene.width, max(3, unit // 120)), fill=(0, 0, 0))
    bar.rectangle((0, 0, done, max(3, unit // 120)), fill=(255, 255, 255))
    return frame
