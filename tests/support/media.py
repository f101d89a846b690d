"""Small real media for tests."""

import io
import random

from PIL import Image


def png(width: int, height: int, *, mode: str = "RGB", seed: int = 0) -> bytes:
    """A PNG of noise: it does not compress, so its size follows its dimensions."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    noise = random.Random(seed).randbytes(width * height * bands)
    target = io.BytesIO()
    Image.frombytes(mode, (width, height), noise).save(target, "PNG")
    return target.getvalue()
