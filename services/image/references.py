"""The pictures that edits work on: checked before anything is paid, fetched when the model is about to be called."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from services.common.errors import InvalidArgument, ServiceError, Unavailable
from services.image.adapters.originals import Original, Originals
from services.image.domain.inputs import MAX_INLINE_BYTES, EditInputs, Source
from services.image.room import Room
from services.models.failures import CallFailed
from services.models.image_files import EditFiles, PictureFacts, PictureFile, check_files, read_facts

FETCHES = 4
"""Assets of one edit that are fetched at a time."""


@dataclass(frozen=True, slots=True)
class CheckedInputs:
    """The pictures of an edit that the model may be given; assets by their ids."""

    owner: str
    inputs: EditInputs
    facts: Mapping[str, PictureFacts]
    originals: Mapping[str, Original]

    @property
    def fetched_bytes(self) -> int:
        """What is held in memory while the model is called, besides inline bytes."""
        return sum(original.facts.size_bytes for original in self.originals.values())


class References:
    """At most `capacity` bytes of assets are in memory at a time, and as many of inline pictures."""

    def __init__(self, originals: Originals, *, capacity: int) -> None:
        self._originals = originals
        self._fetched = Room(capacity)
        self._inline = Room(capacity)

    async def check(self, owner: str, inputs: EditInputs) -> CheckedInputs:
        """The inputs with what is known of them. Assets are looked up, and nothing is fetched.

        Raises:
            InvalidArgument: INVALID_FIELD or INVALID_IMAGE, naming the picture.
            NotFound: ASSET_NOT_FOUND.
            Unavailable: the gallery does not answer.
        """
        if inputs.inline_bytes > MAX_INLINE_BYTES:
            message = f"inline images have {inputs.inline_bytes} bytes together; at most {MAX_INLINE_BYTES} are taken"
            raise InvalidArgument.field("images", message)
        ids = dict.fromkeys(source.asset_id for _, _, source in inputs.parts() if source.asset_id)
        found = await asyncio.gather(*(self._originals.find(owner, asset_id) for asset_id in ids))
        originals = {original.asset_id: original for original in found}
        facts = {field: _facts(source, originals) for field, _, source in inputs.parts()}
        checked = CheckedInputs(
            owner, inputs, {field: one for field, one in facts.items() if one is not None}, originals
        )
        _check(inputs, facts)
        if checked.fetched_bytes > self._fetched.capacity:
            raise InvalidArgument.field("images", f"have more than {self._fetched.capacity} bytes together")
        return checked

    @contextmanager
    def inline(self, inputs: EditInputs) -> Iterator[None]:
        """Counts the inline bytes for as long as they are held.

        Raises:
            Unavailable: there is no room for them for the moment.
        """
        size = inputs.inline_bytes
        if not self._inline.take(size):
            message = "This service holds as many inline images as it takes; try again in a moment."
            raise Unavailable("UNAVAILABLE", message, retry_safe=True, retry_after=1.0)
        try:
            yield
        finally:
            self._inline.give(size)

    @asynccontextmanager
    async def held(self, checked: CheckedInputs) -> AsyncIterator[EditFiles]:
        """The pictures' bytes, within the block.

        Raises:
            CallFailed: they cannot be had any more; nothing was sent to the model.
        """
        async with self._fetched.taken(checked.fetched_bytes):
            yield _files(checked, await self._fetch(checked))

    async def _fetch(self, checked: CheckedInputs) -> Mapping[str, bytes]:
        turns = asyncio.Semaphore(FETCHES)

        async def fetch(original: Original) -> bytes:
            async with turns:
                return await self._originals.read(checked.owner, original)

        tasks = {asset_id: asyncio.create_task(fetch(one)) for asset_id, one in checked.originals.items()}
        try:
            return {asset_id: await task for asset_id, task in tasks.items()}
        except ServiceError as error:
            raise CallFailed(error) from error
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)


def _facts(source: Source, originals: Mapping[str, Original]) -> PictureFacts | None:
    return originals[source.asset_id].facts if source.asset_id else read_facts(source.content)


def _check(inputs: EditInputs, facts: Mapping[str, PictureFacts | None]) -> None:
    images = [facts[f"images[{index}]"] for index in range(len(inputs.images))]
    for name in ("mask", "markup"):
        if name in facts and facts[name] is None:
            raise InvalidArgument.field(name, "must be a PNG picture", "INVALID_IMAGE")
    check_files(images, facts.get("mask"), facts.get("markup"))


def _files(checked: CheckedInputs, contents: Mapping[str, bytes]) -> EditFiles:
    def file(name: str, source: Source | None) -> PictureFile | None:
        if source is None:
            return None
        content = contents[source.asset_id] if source.asset_id else source.content
        return PictureFile(content, checked.facts[name].mime_type)

    inputs = checked.inputs
    images = (file(f"images[{index}]", source) for index, source in enumerate(inputs.images))
    return EditFiles(tuple(one for one in images if one), file("mask", inputs.mask), file("markup", inputs.markup))
