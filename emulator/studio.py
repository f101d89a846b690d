"""Drawing off the event loop, or handing out what was drawn before."""

import asyncio
import base64
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from emulator.drawing.editing import Inputs
from emulator.drawing.encoding import TAGGED_AT_END, unique
from emulator.drawing.pictures import Picture, PictureSpec, render, render_with_grain

_T = TypeVar("_T")

# What a pre-rendered picture says it is of, since the prompt that first asks for it means nothing to the next.
_STOCK_PROMPT = "a pre-rendered picture: hills at dusk"
_MAX_STOCK = 24
_TAIL = 64


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture ready for an answer: base64 text of the file and of its previews."""

    b64: bytes
    sha256: str
    partials: tuple[bytes, ...]


class _Stock:
    """A picture drawn once, of which all that no tag changes is encoded and digested once, too."""

    def __init__(self, spec: PictureSpec) -> None:
        picture = render_with_grain(spec)
        self._format = spec.output_format
        # Base64 can be cut after every third byte, where the tag goes to the end of the file.
        cut = max(0, len(picture.data) - _TAIL) // 3 * 3 if self._format in TAGGED_AT_END else 0
        self._tail = picture.data[cut:]
        self._head_b64 = base64.b64encode(picture.data[:cut])
        self._head_sha256 = hashlib.sha256(picture.data[:cut])
        self._partials = tuple(map(base64.b64encode, picture.partials))

    def tagged(self, tag: str) -> Drawn:
        """The picture with bytes of its own."""
        tail, digest = unique(self._tail, self._format, tag), self._head_sha256.copy()
        digest.update(tail)
        return Drawn(self._head_b64 + base64.b64encode(tail), digest.hexdigest(), self._partials)


class Studio:
    """A pool of threads that draw; Pillow lets go of the interpreter while it encodes.

    Pre-rendered, a picture is drawn once for each size, format, compression and background, with the weight of a
    model's, and every request gets it with a tag of its own in the metadata: no two answers have the same bytes.
    """

    def __init__(self, *, prerendered: bool) -> None:
        self._prerendered = prerendered
        self._pool = ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 2), thread_name_prefix="studio")
        self._stock: OrderedDict[PictureSpec, _Stock] = OrderedDict()
        self._stocktaking = threading.Lock()

    def close(self) -> None:
        """Finish what is being drawn and take no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def run(self, work: Callable[[], _T]) -> _T:
        """Do other work on pictures, such as decoding, in the same pool."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def pictures(self, specs: Sequence[PictureSpec], inputs: Inputs | None, tag: str) -> list[Drawn]:
        """Draw all of `specs`; `tag` is unique to the request."""
        if self._prerendered:
            return list(await asyncio.gather(*(self.run(partial(self._from_stock, spec, tag)) for spec in specs)))
        return list(await asyncio.gather(*(self.run(partial(_fresh, spec, inputs)) for spec in specs)))

    def _from_stock(self, spec: PictureSpec, tag: str) -> Drawn:
        stock = self._stocked(replace(spec, prompt=_STOCK_PROMPT, index=0, seed=0))
        return stock.tagged(f"{tag}-{spec.index}")

    def _stocked(self, key: PictureSpec) -> _Stock:
        with self._stocktaking:
            picture = self._stock.get(key)
            if picture is None:
                picture = self._stock[key] = _Stock(key)
                if len(self._stock) > _MAX_STOCK:
                    self._stock.popitem(last=False)
            self._stock.move_to_end(key)
            return picture


def _fresh(spec: PictureSpec, inputs: Inputs | None) -> Drawn:
    return _drawn(render(spec, inputs))


def _drawn(picture: Picture) -> Drawn:
    return Drawn(base64.b64encode(picture.data), picture.sha256, tuple(map(base64.b64encode, picture.partials)))
