"""Errors of the helpers."""

from collections.abc import Sequence

from services.common.errors import Billed, FailedPrecondition, InvalidArgument, ServiceError, Unavailable


def brands_left(brands: Sequence[str]) -> ServiceError:
    """The model left brands in, twice: the prompt is not used, whatever else the answer says."""
    return FailedPrecondition(
        "BRAND_PROTECTION_FAILED",
        f"The rewritten prompt still names a brand that it must not: {brands[0][:100]!r}.",
        billed=Billed.YES,
        metadata={"brands": ", ".join(brands)[:300]},
    )


def unusable_picture(field: str, description: str) -> ServiceError:
    """The bytes are no picture that a model can be shown."""
    return InvalidArgument.field(field, description, "INVALID_IMAGE")


def not_prepared(message: str) -> ServiceError:
    """The picture could not be prepared here and now; nothing was sent to anybody."""
    return Unavailable("UNAVAILABLE", message, retry_safe=True)
