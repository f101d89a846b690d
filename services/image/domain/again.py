"""A generation as the request that it was: what a second attempt at it asks for."""

from services.image.domain.generations import Generation, NewGeneration
from services.image.domain.inputs import EditInputs, Role, Source
from services.models.image_requests import ImageRequest

_NUMBERS = ("n", "output_compression", "frame_count", "frame_duration_ms", "seed")


def image_request_of(generation: Generation) -> ImageRequest:
    """What the model is asked: the same prompt, already rewritten where it was, with the same parameters.

    What has become of the model is for the check of the request to say.
    """
    known = ImageRequest.__dataclass_fields__
    given = {name: value for name, value in generation.parameters.items() if name in known}
    numbers = {name: int(given.pop(name)) for name in _NUMBERS if name in given}
    prompt = generation.final_prompt or generation.prompt
    return ImageRequest(prompt=prompt, model=generation.model, **given, **numbers)  # type: ignore[arg-type]  # by name


def edit_inputs_of(generation: Generation) -> EditInputs | None:
    """The pictures that an edit worked on; None: it is none, or some of them were sent inline and are not kept."""
    sources = [(one.role, Source(asset_id=one.asset_id)) for one in generation.inputs]
    if not sources or any(not source.asset_id for _, source in sources):
        return None
    overlays = dict(sources)
    images = tuple(source for role, source in sources if role in (Role.EDITED_FROM, Role.REFERENCE))
    return EditInputs(images, mask=overlays.get(Role.MASK), markup=overlays.get(Role.MARKUP))


def new_generation_of(generation: Generation) -> NewGeneration:
    """The generation as its pictures are made for it, under the name that it has."""
    return NewGeneration(
        id=generation.id,
        owner=generation.owner,
        request_id=generation.request_id,
        operation=generation.operation,
        prompt=generation.prompt,
        model=generation.model,
        parameters=generation.parameters,
        placement=generation.placement,
        inputs=generation.inputs,
        steps=generation.steps,
    )
