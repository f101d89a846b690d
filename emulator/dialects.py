"""What each server that speaks the protocol does in its own way: one row of switches each.

Every switch rests on the server's own code or documentation, read in November 2026: vLLM-Omni 0.30 and SGLang 0.5.23
(their image endpoints, models and error handlers), LiteLLM's proxy 1.109, LocalAI's routes and schema of 2026,
Microsoft's reference for Azure OpenAI, and error bodies that users of Azure have published.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from emulator.models import ROWS, ImageTraits, Model, Price

LMH = ("low", "medium", "high")
PNG_JPEG_WEBP = ("png", "jpeg", "webp")

Errors = Literal["openai", "azure", "vllm", "sglang", "litellm", "localai"]
Honoured = Literal["yes", "refused", "ignored"]


@dataclass(frozen=True, slots=True)
class Reading:
    """How a server that is not OpenAI's reads image parameters. What it does not use, it ignores without a word.

    Attributes:
        used: parameters that have an effect; all others are dropped.
        auto_size: what `size` without an `x` is in generations: refused, or the default.
        default_size: of generations; edits without a size follow the first picture.
        response_format, edit_response_format: when the request names none.
        url: an answer by address: refused, or served by `/generated-images/`.
        default_format, other_format: of pictures when none is asked for, and for a word that is no format; where
            `background` is used, a transparent one makes both PNG.
        qualities: the only words `quality` may have, where it is used.
        clamps_n: an `n` out of bounds is brought into them instead of refused.
        edit_stream: what becomes of `stream=true` in edits; in generations it is always ignored.
        mask_field: the form field of the mask; None where a mask is taken and not used.
    """

    used: frozenset[str]
    auto_size: Literal["refused", "default"] = "refused"
    default_size: str = "1024x1024"
    response_format: Literal["b64_json", "url"] = "b64_json"
    edit_response_format: Literal["b64_json", "url"] = "b64_json"
    url: Literal["refused", "served"] = "refused"
    default_format: str = "png"
    other_format: str = "jpeg"
    qualities: tuple[str, ...] | None = None
    clamps_n: bool = False
    edit_stream: Literal["refused", "ignored"] = "ignored"
    mask_field: str | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """One row.

    Attributes:
        name: as `--dialect` and the path `/dialects/NAME/` have it.
        rows: the models it has.
        shutdowns: other dates on which models end here.
        root: below which path its endpoints are; `deployments` names the model in the path.
        keyless: answers without a key, unless one is required.
        edits: has the endpoint for edits.
        errors: shape of an error's body.
        id_headers: response headers that carry the request's id.
        model: `required`; `optional`: the server has one of each kind, and another name is refused; `ignored`:
            likewise, but any name will do.
        reading: None where parameters are read as OpenAI reads them.
        formats, qualities: bounds on what the model's row allows; None is none.
        usage: of image answers: as OpenAI's; none; by the names of chats; or always zero.
        cost_header: tells the cost in USD in a response header.
        chat_unknown_refused: a chat parameter that does not exist is refused, not ignored.
        max_tokens, max_completion_tokens: what happens to a chat's limit of that name.
        json_schema, json_object: what happens to a response format of that type; ignored means that prose comes back.
        plain_chat_usage: three numbers without details.
        early_final: in a stream the completed event comes before the last preview.
    """

    name: str
    rows: tuple[Model, ...] = ROWS
    root: Literal["v1", "azure-v1", "deployments"] = "v1"
    keyless: bool = False
    edits: bool = True
    errors: Errors = "openai"
    id_headers: tuple[str, ...] = ()
    model: Literal["required", "optional", "ignored"] = "required"
    reading: Reading | None = None
    formats: tuple[str, ...] | None = None
    qualities: tuple[str, ...] | None = None
    usage: Literal["openai", "none", "chat_names", "zero"] = "openai"
    cost_header: bool = False
    chat_unknown_refused: bool = True
    max_tokens: Honoured | Literal["by_model"] = "yes"
    max_completion_tokens: Honoured = "yes"
    json_schema: Honoured = "yes"
    json_object: Honoured = "yes"
    plain_chat_usage: bool = False
    early_final: bool = False


_FREE = Price(0, 0, 0)
_ANY = ImageTraits(any_size=True)
_QWEN_IMAGE, _QWEN_CHAT = Model("Qwen/Qwen-Image", _FREE, _ANY), Model("Qwen/Qwen3-VL-8B-Instruct", _FREE)
_LOCAL = (Model("sd-3.5-medium-ggml", _FREE, _ANY), Model("qwen3-vl-8b-instruct", _FREE))

# Azure ends models on days of its own, and has shown none of the 2.6 generation.
_AZURE_ENDS: Mapping[str, date] = {
    "gpt-image-1.5": date(2026, 12, 16),
    "gpt-image-1-mini": date(2027, 4, 7),
    "gpt-image-2": date(2027, 4, 21),
    "gpt-image-2-2026-04-21": date(2027, 4, 21),
}
_AZURE_ROWS = tuple(
    replace(row, shutdown=_AZURE_ENDS.get(row.id, row.shutdown))
    for row in ROWS
    if not row.id.startswith(("gpt-image-2.6", "chatgpt-"))
)
_LITELLM_ROWS = tuple(replace(row, id=f"openai/{row.id}") for row in ROWS)

_AZURE = Dialect(
    "azure-v1",
    rows=_AZURE_ROWS,
    root="azure-v1",
    errors="azure",
    id_headers=("x-request-id", "apim-request-id"),
    formats=("png", "jpeg"),
    qualities=LMH,
    max_tokens="by_model",
)

_VLLM_READING = Reading(
    used=frozenset({"prompt", "n", "size", "output_format", "output_compression", "response_format", "user"}),
    edit_stream="refused",
    mask_field="mask_image",
)
_SGLANG_READING = Reading(
    used=_VLLM_READING.used | {"quality", "background"},
    response_format="url",
    default_format="jpeg",
    qualities=("auto", "exact", "lossless", "high", "extra-high"),
    clamps_n=True,
)
_LOCALAI_READING = Reading(
    used=frozenset({"prompt", "n", "size", "response_format"}),
    auto_size="default",
    default_size="512x512",
    response_format="url",
    url="served",
)

_ALL = (
    Dialect("openai", id_headers=("x-request-id",), max_tokens="by_model"),
    _AZURE,
    replace(_AZURE, name="azure-legacy", root="deployments"),
    Dialect(
        "vllm-omni",
        rows=(_QWEN_IMAGE, _QWEN_CHAT),
        keyless=True,
        errors="vllm",
        model="optional",
        reading=_VLLM_READING,
        usage="none",
        chat_unknown_refused=False,
        plain_chat_usage=True,
    ),
    Dialect(
        "sglang",
        rows=(_QWEN_IMAGE, _QWEN_CHAT),
        keyless=True,
        errors="sglang",
        model="ignored",
        reading=_SGLANG_READING,
        usage="chat_names",
        chat_unknown_refused=False,
        plain_chat_usage=True,
    ),
    Dialect("litellm", rows=_LITELLM_ROWS, errors="litellm", id_headers=("x-litellm-call-id",), cost_header=True),
    Dialect(
        "localai",
        rows=_LOCAL,
        keyless=True,
        edits=False,
        errors="localai",
        model="optional",
        reading=_LOCALAI_READING,
        usage="zero",
        chat_unknown_refused=False,
        max_completion_tokens="ignored",
        plain_chat_usage=True,
    ),
)
DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in _ALL}

# Options turn single switches: `openai+schema-refused` and the like, on the command line and in the path.
OPTIONS: Mapping[str, Mapping[str, object]] = {
    "schema-refused": {"json_schema": "refused"},
    "schema-ignored": {"json_schema": "ignored"},
    "object-refused": {"json_object": "refused"},
    "object-ignored": {"json_object": "ignored"},
    "max-tokens-only": {"max_tokens": "yes", "max_completion_tokens": "refused"},
    "early-final": {"early_final": True},
}


def dialect_of(text: str) -> Dialect:
    """The dialect of `NAME` or `NAME+OPTION+OPTION`. Raises ValueError with what is wrong."""
    name, *options = text.split("+")
    if name not in DIALECTS:
        raise ValueError(f"there is no dialect {name[:50]!r}; there are {', '.join(DIALECTS)}")
    dialect = DIALECTS[name]
    for option in options:
        if option not in OPTIONS:
            raise ValueError(f"there is no option {option[:50]!r}; there are {', '.join(OPTIONS)}")
        dialect = replace(dialect, **OPTIONS[option])  # type: ignore[arg-type]  # rows of the table above
    return dialect
