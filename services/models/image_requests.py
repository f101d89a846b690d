"""An image request, the one check of it against the registry before any money is spent, and what is sent of it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from services.common.errors import Violation
from services.models.checks import unsupported, usable_model
from services.models.registry import Registry
from services.models.rows import ANY, Dialect, ImageModel, Operation, SizeRule

# Formats whose compression can be set, formats of a transparent background: the protocol's, not a model's.
LOSSY = ("jpeg", "webp")
TRANSPARENT_FORMATS = ("png", "webp")
# Without mask and without stream.
STILL_FORMATS = ("gif", "svg")
_FREE_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
SVG_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """What is asked of an image model, in the contract's names. Empty or None: not given."""

    prompt: str
    model: str = ""
    n: int = 1
    size: str = ""
    quality: str = ""
    background: str = ""
    output_format: str = ""
    output_compression: int | None = None
    moderation: str = ""
    complexity: str = ""
    frame_count: int | None = None
    frame_duration_ms: int | None = None
    svg_model: str = ""
    svg_reasoning_effort: str = ""
    safety_identifier: str = ""
    seed: int | None = None
    input_fidelity: str = ""


@dataclass(frozen=True, slots=True)
class References:
    """How many pictures an edit is given, and with which overlays."""

    images: int
    mask: bool = False
    markup: bool = False


@dataclass(frozen=True, slots=True)
class CheckedImageRequest:
    """A request that its model takes. `parameters` is what the model is given, the operator's defaults included.

    With `partial_images` its answer is streamed.
    """

    request: ImageRequest
    model_id: str
    model: ImageModel
    parameters: Mapping[str, str | int]
    partial_images: int = 0
    operation: Operation = "generate"


def check_image_request(
    request: ImageRequest,
    registry: Registry,
    *,
    today: date,
    references: References | None = None,
    partial_images: int = 0,
) -> CheckedImageRequest:
    """The request with its model; one with `references` is an edit.

    Raises:
        InvalidArgument: MODEL_UNKNOWN, or UNSUPPORTED_PARAMETER with a violation for each field.
        FailedPrecondition: MODEL_RETIRED, naming the replacement; MODEL_NOT_CONFIGURED.
    """
    model_id, model = usable_model(registry, ImageModel, request.model, today)
    operation: Operation = "generate" if references is None else "edit"
    if operation not in model.operations:
        raise unsupported(model_id, [Violation("model", f"{model_id} does not {operation} images")])
    parameters = {**_missing_defaults(request, model), **_given(request)}
    violations = list(_violations(request, parameters, model_id, model))
    if references is not None:
        violations += _reference_violations(references, parameters, model_id, model, registry.dialect(model))
    if partial_images:
        violations += _stream_violations(partial_images, parameters, model_id, model)
    if violations:
        raise unsupported(model_id, violations)
    return CheckedImageRequest(request, model_id, model, parameters, partial_images, operation)


def refused_defaults(model_id: str, model: ImageModel) -> list[Violation]:
    """What is wrong with the operator's defaults: the violations of a request that gives nothing."""
    bare = ImageRequest("x")
    return list(_violations(bare, _missing_defaults(bare, model), model_id, model))


def wire_body(
    checked: CheckedImageRequest,
    *,
    send_model: bool,
    response_format: str | None,
    user_field: str = "safety_identifier",
) -> dict[str, Any]:
    """The parameters of `POST /images/generations` and `/images/edits`."""
    body: dict[str, Any] = {"prompt": checked.request.prompt, **checked.parameters}
    if "safety_identifier" in body:
        body[user_field] = body.pop("safety_identifier")
    svg_model, effort = body.pop("svg_model", None), body.pop("svg_reasoning_effort", None)
    if svg_model:
        body["svg"] = {"model": svg_model} | ({"reasoning": {"effort": effort}} if effort else {})
    if send_model:
        body["model"] = checked.model.wire_id
    if response_format:
        body["response_format"] = response_format
    if checked.partial_images:
        body |= {"stream": True, "partial_images": checked.partial_images}
    return body


def _given(request: ImageRequest) -> dict[str, str | int]:
    """The parameters that the request gives; `n` always, so that nobody has to know a model's default."""
    names = (name for name in ImageRequest.__dataclass_fields__ if name not in ("prompt", "model"))
    values = {name: getattr(request, name) for name in names}
    return {name: value for name, value in values.items() if value not in (None, "")}


def _missing_defaults(request: ImageRequest, model: ImageModel) -> dict[str, str | int]:
    return {name: value for name, value in model.defaults.items() if not getattr(request, name)}


def _violations(
    request: ImageRequest, parameters: Mapping[str, str | int], model_id: str, model: ImageModel
) -> Iterator[Violation]:
    if len(request.prompt) > model.max_prompt_chars:
        yield Violation("prompt", f"{model_id} takes at most {model.max_prompt_chars} characters")
    if request.n > model.max_images:
        yield Violation("n", f"{model_id} makes at most {model.max_images} images a call")
    if "size" in parameters:
        yield from _size_violations(str(parameters["size"]), model_id, model.size_rule)
    choices = {"quality": model.qualities, "background": model.backgrounds, "output_format": model.formats}
    for name, taken in choices.items():
        if name in parameters and parameters[name] not in taken:
            yield _not_among(name, model_id, taken)
    for name in ("output_compression", "moderation", "complexity", "safety_identifier", "seed", "input_fidelity"):
        if name in parameters:
            yield from _parameter_violations(name, parameters[name], model_id, model)
    yield from _format_violations(request, parameters, model)


def _size_violations(size: str, model_id: str, rule: SizeRule) -> Iterator[Violation]:
    if size in rule.fixed:
        return
    if not rule.free or size == "auto":
        yield _not_among("size", model_id, rule.fixed)
        return
    written = _FREE_SIZE.fullmatch(size)
    if written is None:
        yield Violation("size", "must be WIDTHxHEIGHT in px, or auto where the model takes it")
        return
    width, height = int(written[1]), int(written[2])
    if width % rule.grid_px or height % rule.grid_px:
        yield Violation("size", f"width and height must be multiples of {rule.grid_px}")
    elif max(width, height) > rule.max_edge_px:
        yield Violation("size", f"no edge may be longer than {rule.max_edge_px} px")
    elif max(width, height) > rule.max_aspect_ratio * min(width, height):
        yield Violation("size", f"the longer edge may be at most {rule.max_aspect_ratio} times the shorter one")
    elif not rule.min_pixels <= width * height <= rule.max_pixels:
        yield Violation("size", f"width times height must be {rule.min_pixels} to {rule.max_pixels} px")


def _parameter_violations(name: str, value: str | int, model_id: str, model: ImageModel) -> Iterator[Violation]:
    taken = model.parameters.get(name, ())
    if taken != ANY and value not in taken:
        yield _not_among(name, model_id, taken)


def _format_violations(
    request: ImageRequest, parameters: Mapping[str, str | int], model: ImageModel
) -> Iterator[Violation]:
    """Rules between fields, which hold for every model of the protocol."""
    output_format = str(parameters.get("output_format", "png"))
    if parameters.get("background") == "transparent" and output_format not in TRANSPARENT_FORMATS:
        yield Violation("background", f"transparent needs output_format png or webp, not {output_format}")
    if request.output_compression is not None and output_format not in LOSSY:
        yield Violation("output_compression", f"is for jpeg and webp, not for {output_format}")
    for name in ("frame_count", "frame_duration_ms"):
        if name in parameters and output_format != "gif":
            yield Violation(name, f"is for gif, not for {output_format}")
    for name in ("svg_model", "svg_reasoning_effort"):
        if name in parameters and output_format != "svg":
            yield Violation(name, f"is for svg, not for {output_format}")
    if request.svg_reasoning_effort and request.svg_reasoning_effort not in SVG_EFFORTS:
        yield Violation("svg_reasoning_effort", f"must be one of {', '.join(SVG_EFFORTS)}")
    if request.svg_reasoning_effort and not request.svg_model:
        yield Violation("svg_reasoning_effort", "needs svg_model")
    if output_format == "svg" and request.n != 1:
        yield Violation("n", "must be 1 for svg")


def _reference_violations(
    references: References, parameters: Mapping[str, str | int], model_id: str, model: ImageModel, dialect: Dialect
) -> Iterator[Violation]:
    if references.images > model.max_references:
        yield Violation("images", f"{model_id} takes at most {model.max_references} images")
    if references.mask and not dialect.mask_field:
        yield Violation("mask", f"{model_id} does not take it")
    if references.mask and (output_format := parameters.get("output_format")) in STILL_FORMATS:
        yield Violation("mask", f"does not go with {output_format}")
    if references.markup and "markup" not in model.parameters:
        yield Violation("markup", f"{model_id} does not take it")
    if references.markup and references.mask:
        yield Violation("markup", "does not go with mask")


def _stream_violations(
    partial_images: int, parameters: Mapping[str, str | int], model_id: str, model: ImageModel
) -> Iterator[Violation]:
    if partial_images > model.max_partial_images:
        yield Violation("partial_images", f"{model_id} makes at most {model.max_partial_images}")
    elif (output_format := parameters.get("output_format")) in STILL_FORMATS:
        yield Violation("partial_images", f"there are none of {output_format}")


def _not_among(name: str, model_id: str, taken: tuple[str, ...]) -> Violation:
    if not taken:
        return Violation(name, f"{model_id} does not take it")
    return Violation(name, f"{model_id} takes {', '.join(taken)}")
