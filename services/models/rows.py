"""The registry's rows, validated: what an endpoint is, how its dialect differs, what a model takes and costs.

Every rule of the check of a request is in these rows; code knows no model id.
"""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from services.models.money import TokenPrice
from services.models.usage import UsageNames

ANY: Literal["any"] = "any"
"""In `parameters`: every value that the contract lets through is taken."""

# The last segment of `imageModels/{image_model}`.
ModelId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")]
Operation = Literal["generate", "edit"]
# As the contract has it: another size could not be asked for.
Size = Annotated[str, Field(pattern=r"^(auto|[1-9][0-9]{1,4}x[1-9][0-9]{1,4})$")]


class Row(BaseModel):
    """Frozen, and an unknown key is a mistake, not a comment."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NotAccepted(Row):
    """An answer that proves that the call was not accepted and cost nothing.

    `codes` are the values of the error's `code` or `type` that prove it; empty: the status alone does.
    """

    status: int = Field(ge=500, le=599)
    codes: tuple[str, ...] = ()


class Dialect(Row):
    """How a server's OpenAI protocol differs from OpenAI's own.

    What it does not take is taken out of the models bound to it, so that a request is refused and nothing dropped.
    """

    # Of image requests; a chat always names its model.
    send_model: bool = True
    # The path names the deployment, and every request a dated version of the API: Azure's older surface.
    deployment_in_path: bool = False
    # Whether `GET /models` names every model that can be called.
    lists_all_models: bool = False
    # What the end user's identifier is called; `user` is the older name.
    user_field: Literal["safety_identifier", "user"] = "safety_identifier"
    response_format: Literal["b64_json"] | None = None
    usage: UsageNames = "images"
    not_accepted: tuple[NotAccepted, ...] = ()
    # Whether a 5xx answer may have cost money. A server of one's own that failed has made nothing to pay for.
    server_errors_may_bill: bool = True
    unsupported_parameters: tuple[str, ...] = ()
    unsupported_formats: tuple[str, ...] = ()
    unsupported_sizes: tuple[str, ...] = ()
    unsupported_qualities: tuple[str, ...] = ()
    # The words that stand in the place of a model's qualities, where it has any; empty: its own.
    qualities: tuple[str, ...] = ()
    # Whether there is `POST /images/edits`, and under which name its form has the mask; empty: masks have no effect.
    edits: bool = True
    mask_field: str = "mask"
    # Whether `stream` has an effect on images.
    streams: bool = True


def http_url(value: str) -> str:
    """An address that requests can be sent below, without a slash at its end.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(value.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or not _visible(parts.geturl()):
        raise ValueError("not an http or https address")
    if parts.query or parts.fragment:
        raise ValueError("an address with a query or fragment has no place for paths")
    if parts.port == 0:  # reading an impossible one raises
        raise ValueError("Port out of range 0-65535")
    return parts.geturl().rstrip("/")


def header_value(value: str) -> str:
    """A credential as a header carries it: files and variables often end in a line break.

    Raises:
        ValueError: no header can carry it.
    """
    value = value.strip()
    if not _visible(value):
        raise ValueError("holds what a header cannot carry: only visible ASCII characters are allowed")
    return value


def secret_header_value(value: SecretStr) -> SecretStr:
    """`header_value` of a secret."""
    return SecretStr(header_value(value.get_secret_value()))


def _visible(text: str) -> bool:
    return all("!" <= character <= "~" for character in text)


class Endpoint(Row):
    """A server that models are called at. Credentials are named, never written into a registry file."""

    base_url: Annotated[str, AfterValidator(http_url)]
    dialect: str = "openai"
    auth: Literal["key", "entra", "none"] = "none"
    key: Annotated[SecretStr, AfterValidator(secret_header_value)] | None = Field(default=None, exclude=True)
    organization: Annotated[str, AfterValidator(header_value)] = ""
    entra_scope: str = "https://cognitiveservices.azure.com/.default"
    # Of a dialect with the deployment in the path, where `base_url` is the resource's address.
    api_version: str = Field(default="", pattern=r"^(\d{4}-\d{2}-\d{2}(-preview)?)?$")

    @property
    def configured(self) -> bool:
        """Whether the credentials it needs are there; a token for Entra ID is asked for when it is needed."""
        return self.auth != "key" or (self.key is not None and bool(self.key.get_secret_value()))


class SizeRule(Row):
    """Sizes that a model takes: the fixed ones, and free ones `WxH` within the limits."""

    fixed: tuple[Size, ...] = ()
    free: bool = False
    grid_px: int = Field(default=1, ge=1)
    max_edge_px: int = Field(default=0, ge=0)
    min_pixels: int = Field(default=0, ge=0)
    max_pixels: int = Field(default=0, ge=0)
    max_aspect_ratio: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _free_sizes_have_limits(self) -> Self:
        if self.free and not (self.max_edge_px and self.max_pixels and self.max_aspect_ratio):
            raise ValueError("free sizes need max_edge_px, max_pixels and max_aspect_ratio")
        return self


def _usd(value: object) -> int:
    """Micro-USD of a decimal string in USD, or of an integer that is micro-USD already."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise ValueError("a price is a decimal string in USD or an integer in micro-USD")
    try:
        micro = Decimal(value) * 1_000_000
    except InvalidOperation:
        raise ValueError("not a number") from None
    if not micro.is_finite() or micro != micro.to_integral_value():
        raise ValueError("a price is a whole number of micro-USD")
    return int(micro)


# A million USD for a million tokens: a cost of any call fits into 64 bits.
MicroUsd = Annotated[int, BeforeValidator(_usd), Field(ge=0, le=10**12)]


class PriceRow(Row):
    """What a million tokens of each kind cost from a day on. A kind that is not named has no price."""

    effective_date: date
    source: str = Field(min_length=1)
    input_text: MicroUsd | None = None
    input_image: MicroUsd | None = None
    output_text: MicroUsd | None = None
    output_image: MicroUsd | None = None

    def price(self) -> TokenPrice:
        """The price as costs are computed with it."""
        return TokenPrice(
            self.input_text,
            self.input_image,
            self.output_text,
            self.output_image,
            self.effective_date.isoformat(),
            self.source,
        )


class ModelRow(Row):
    """What every model has."""

    endpoint: str
    wire_id: str = ""
    display_name: str = ""
    default: bool = False
    shutdown_date: date | None = None
    replacement: str = ""
    price: str = ""
    max_prompt_chars: int = Field(default=32_000, ge=1)


class ImageModel(ModelRow):
    """What an image model takes. An empty list of values: the parameter is not taken at all."""

    kind: Literal["image"] = "image"
    operations: tuple[Operation, ...] = ("generate",)
    size_rule: SizeRule = SizeRule()
    qualities: tuple[str, ...] = ()
    formats: tuple[str, ...] = Field(default=("png",), min_length=1)
    backgrounds: tuple[str, ...] = ()
    # Further parameters with the values they take, or "any".
    parameters: Mapping[str, tuple[str, ...] | Literal["any"]] = Field(default_factory=dict)
    # Values sent when the request gives none; the operator's, not the contract's.
    defaults: Mapping[Literal["size", "quality", "background", "output_format"], str] = Field(default_factory=dict)
    max_images: int = Field(default=10, ge=1, le=10)
    max_references: int = Field(default=0, ge=0, le=16)
    max_partial_images: int = Field(default=0, ge=0, le=3)


class TextModel(ModelRow):
    """What a language model of the helpers can do."""

    kind: Literal["text"] = "text"
    structured: Literal["json_schema", "json_object", "prompt"] = "json_schema"
    vision: bool = True
    max_tokens_parameter: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    # Of one answer, thoughts included. Asking for more than the model can give is an error with most servers.
    max_output_tokens: int = Field(default=16_384, ge=1)
    # Of all texts of a request together: instructions, what the caller gave, an earlier answer.
    max_prompt_chars: int = Field(default=200_000, ge=1)
    max_pictures: int = Field(default=50, ge=1)
    # A picture's longer edge: what is larger is made smaller before it is sent, as the model would do.
    picture_edge_px: int = Field(default=1568, ge=64, le=8192)


Model = Annotated[ImageModel | TextModel, Field(discriminator="kind")]
