"""Registry rows to protocol buffers; pure."""

from collections.abc import Sequence
from datetime import date

from contentlab.image.v1 import image_service_pb2 as pb
from services.common.names import ResourceName
from services.image.domain.inputs import MAX_INLINE_BYTES
from services.models.money import TokenPrice
from services.models.registry import Registry, lifecycle
from services.models.rows import ImageModel, SizeRule, TextModel
from services.models.selection import Selection

MODELS = ResourceName("imageModels/{image_model}", id_pattern=r"[A-Za-z0-9._-]{1,200}")

_LIFECYCLES = {
    "active": pb.ImageModel.ACTIVE,
    "deprecated": pb.ImageModel.DEPRECATED,
    "retired": pb.ImageModel.RETIRED,
}


def to_model(registry: Registry, model_id: str, model: ImageModel, today: date) -> pb.ImageModel:
    """The resource."""
    price = registry.price(model, today)
    return pb.ImageModel(
        name=MODELS.format(model_id),
        display_name=model.display_name or model_id,
        is_default=model_id == registry.default(ImageModel),
        operations=model.operations,
        size_rule=_to_size_rule(model.size_rule),
        qualities=model.qualities,
        output_formats=model.formats,
        backgrounds=model.backgrounds,
        parameters=list(model.parameters),
        max_images=model.max_images,
        max_references=model.max_references,
        max_prompt_chars=model.max_prompt_chars,
        max_partial_images=model.max_partial_images,
        lifecycle=_LIFECYCLES[lifecycle(model, today)],
        shutdown_date=model.shutdown_date.isoformat() if model.shutdown_date else "",
        replacement=model.replacement,
        price=_to_price(price) if price else None,
    )


def _to_size_rule(rule: SizeRule) -> pb.SizeRule:
    if not rule.free:
        return pb.SizeRule(fixed=rule.fixed)
    return pb.SizeRule(**rule.model_dump())


def _to_price(price: TokenPrice) -> pb.TokenPrice:
    return pb.TokenPrice(
        input_text_micro_usd=price.input_text,
        input_image_micro_usd=price.input_image,
        output_text_micro_usd=price.output_text,
        output_image_micro_usd=price.output_image,
        effective_date=price.effective_date,
        source=price.source,
    )


def to_environment(selection: Selection, today: date, further: Sequence[str] = ()) -> pb.ImageEnvironment:
    """How the service is set up, with `further` warnings of its own; no address and no key."""
    registry = selection.registry
    used = {model.endpoint for kind in (ImageModel, TextModel) for _, model in registry.of_kind(kind)}
    return pb.ImageEnvironment(
        provider=selection.provider,
        endpoints=[
            pb.ImageEnvironment.Endpoint(
                endpoint=name, dialect=endpoint.dialect, auth=endpoint.auth, configured=endpoint.configured
            )
            for name, endpoint in registry.endpoints.items()
            if name in used
        ],
        default_model=registry.default(ImageModel),
        text_model=registry.default(TextModel),
        max_inline_bytes=MAX_INLINE_BYTES,
        warnings=[*selection.warnings, *_lifecycle_warnings(registry, today), *further],
    )


def _lifecycle_warnings(registry: Registry, today: date) -> Sequence[str]:
    """The default model's end, which every request that names no model would run into."""
    model_id = registry.default(ImageModel)
    found = registry.find(ImageModel, model_id)
    if found is None or found[1].shutdown_date is None:
        return ()
    hint = f"; use {found[1].replacement}" if found[1].replacement else ""
    verb = "was" if lifecycle(found[1], today) == "retired" else "will be"
    return (f"the default model {model_id} {verb} shut down on {found[1].shutdown_date}{hint}",)
