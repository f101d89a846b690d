"""Chat completions: text, pictures and schemas in, an answer that fits out."""

import base64
import io
import json
from typing import Any, Literal

import openai
import pytest
from PIL import Image
from pydantic import BaseModel, Field

from tests.emulator.harness import CHAT_MODEL, Emulator, new_key, png


def data_url(data: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def asked(text: str, *pictures: str, system: str = "Analyse the picture.", detail: str = "auto") -> Any:
    parts: list[Any] = [{"type": "text", "text": text}]
    parts += [{"type": "image_url", "image_url": {"url": url, "detail": detail}} for url in pictures]
    return [{"role": "system", "content": system}, {"role": "user", "content": parts}]


class Product(BaseModel):
    name: str
    confidence: float = Field(ge=0, le=1)


class Analysis(BaseModel):
    description: str = Field(min_length=10, max_length=400)
    products: list[Product]
    tags: list[str] = Field(max_length=5, min_length=1)
    feedback: str
    mood: Literal["calm", "busy"]
    rating: int = Field(ge=1, le=5)


async def test_a_schema_is_answered_with_what_the_picture_shows(emulator: Emulator) -> None:
    picture = data_url(png(1600, 800, (210, 45, 45)))
    completion = await emulator.openai.chat.completions.parse(
        model=CHAT_MODEL, messages=asked("What is this?", picture), response_format=Analysis
    )
    analysis = completion.choices[0].message.parsed
    assert analysis is not None
    assert "1600x800" in analysis.description
    assert "wide" in analysis.description
    assert "red" in analysis.description
    assert "red" in analysis.tags or "emulated" in analysis.tags
    assert "emulated" in analysis.description.lower(), "nobody takes it for a model's words"


async def test_the_same_question_has_the_same_answer_and_another_has_another(emulator: Emulator) -> None:
    async def answer(text: str, colour: tuple[int, int, int]) -> str | None:
        completion = await emulator.openai.chat.completions.parse(
            model=CHAT_MODEL, messages=asked(text, data_url(png(64, 64, colour))), response_format=Analysis
        )
        return completion.choices[0].message.content

    blue = await answer("a boat", (20, 30, 200))
    assert blue == await answer("a boat", (20, 30, 200))
    assert blue != await answer("a boat", (20, 200, 30))
    assert blue != await answer("a tree", (20, 30, 200))


class Enhanced(BaseModel):
    prompt: str


class Protected(BaseModel):
    protected_prompt: str
    brands: list[str]


class Suggested(BaseModel):
    filename: str = Field(max_length=40)


async def test_the_usual_fields_get_sensible_contents(emulator: Emulator) -> None:
    async def answer(system: str, text: str, kind: type[BaseModel]) -> Any:
        completion = await emulator.openai.chat.completions.parse(
            model=CHAT_MODEL, messages=asked(text, system=system), response_format=kind
        )
        return completion.choices[0].message.parsed

    enhanced = await answer("Enhance the prompt.", "a lighthouse at dusk", Enhanced)
    assert enhanced.prompt.startswith("a lighthouse at dusk")
    assert len(enhanced.prompt) > 40
    protected = await answer("Replace brands and trademarks.", "a Nike shoe beside a Coca-Cola can", Protected)
    assert protected.brands == ["Nike", "Coca-Cola"]
    assert "nike" not in protected.protected_prompt.lower()
    assert "shoe" in protected.protected_prompt
    nothing = await answer("Replace brands and trademarks.", "a shoe", Protected)
    assert (nothing.brands, nothing.protected_prompt) == ([], "a shoe")
    assert (await answer("Suggest a file name.", "A red fox in the snow", Suggested)).filename == "red-fox-snow"
    assert (await answer("Suggest a file name.", "猫 と 灯台", Suggested)).filename == "猫-と-灯台"


async def test_json_object_answers_the_schema_or_the_keys_named_in_the_messages(emulator: Emulator) -> None:
    async def answer(system: str) -> Any:
        completion = await emulator.openai.chat.completions.create(
            model=CHAT_MODEL,
            messages=asked("a bottle", system=system),
            response_format={"type": "json_object"},
        )
        return json.loads(completion.choices[0].message.content or "")

    Analysis.model_validate(await answer(f"Answer as JSON that fits {json.dumps(Analysis.model_json_schema())} only."))
    named = await answer('Answer as JSON with the keys "description" and "tags".')
    assert isinstance(named["description"], str)
    assert isinstance(named["tags"], list)
    assert set(await answer("Answer as JSON.")) == {"answer"}
    with pytest.raises(openai.BadRequestError, match="'json'"):
        await answer("Answer somehow.")


async def test_a_schema_in_a_plain_prompt_is_obeyed_as_a_model_would(emulator: Emulator) -> None:
    completion = await emulator.openai.chat.completions.create(
        model=CHAT_MODEL, messages=asked("a cup", system=f"Only JSON like {json.dumps(Analysis.model_json_schema())}")
    )
    Analysis.model_validate_json(completion.choices[0].message.content or "")


async def test_plain_text_is_answered_in_plain_text(emulator: Emulator) -> None:
    completion = await emulator.openai.chat.completions.create(
        model=CHAT_MODEL, messages=[{"role": "user", "content": "a cup"}], max_completion_tokens=500, temperature=0.2
    )
    [choice] = completion.choices
    assert (choice.finish_reason, choice.message.refusal) == ("stop", None)
    assert "a cup" in (choice.message.content or "")


async def test_usage_counts_words_and_pictures_and_agrees_with_the_charge(emulator: Emulator) -> None:
    async def used(detail: str) -> Any:
        key = new_key()
        completion = await emulator.openai.chat.completions.create(
            model="gpt-6.1-terra",
            messages=asked("12345678", data_url(png(1024, 1024, (9, 9, 9))), system="1234567", detail=detail),
            extra_headers={"Idempotency-Key": key},
        )
        usage = completion.usage
        assert usage is not None
        charge = await emulator.charge(key)
        assert charge["usage"]["total_tokens"] == usage.prompt_tokens + usage.completion_tokens == usage.total_tokens
        assert charge["cost_micro_usd"] == usage.prompt_tokens + 5 * usage.completion_tokens
        assert (charge["operation"], charge["pictures"]) == ("chat", [])
        assert usage.prompt_tokens_details is not None
        assert usage.prompt_tokens_details.text_tokens == 4
        return usage.prompt_tokens_details.image_tokens

    assert await used("high") == 581
    assert await used("low") == 85


async def test_an_answer_that_is_too_long_is_cut_and_says_so(emulator: Emulator) -> None:
    completion = await emulator.openai.chat.completions.create(
        model=CHAT_MODEL, messages=asked("a cup"), max_completion_tokens=3
    )
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 3
    with pytest.raises(openai.LengthFinishReasonError):
        await emulator.openai.chat.completions.parse(
            model=CHAT_MODEL, messages=asked("a cup"), response_format=Analysis, max_completion_tokens=3
        )


@pytest.mark.parametrize("include_usage", [True, False])
async def test_a_stream_has_the_same_words(emulator: Emulator, include_usage: bool) -> None:
    whole = await emulator.openai.chat.completions.create(model=CHAT_MODEL, messages=asked("a long pier in the fog"))
    stream = await emulator.openai.chat.completions.create(
        model=CHAT_MODEL,
        messages=asked("a long pier in the fog"),
        stream=True,
        stream_options={"include_usage": True} if include_usage else openai.omit,
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage == (whole.usage if include_usage else None)


def gif() -> bytes:
    target = io.BytesIO()
    Image.new("P", (8, 8)).save(target, "GIF")
    return target.getvalue()


async def test_a_gif_is_a_picture_too(emulator: Emulator) -> None:
    completion = await emulator.openai.chat.completions.create(
        model=CHAT_MODEL, messages=asked("?", data_url(gif(), "image/gif"))
    )
    assert "8x8" in (completion.choices[0].message.content or "")


GOOD = data_url(png(8, 8, (1, 2, 3)))
URL = "messages[1].content[1].image_url.url"
TEXT: Any = [{"role": "user", "content": "hello"}]


def said(part: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [part]}]}


def with_schema(schema: dict[str, Any], *, strict: bool = True) -> dict[str, Any]:
    json_schema = {"name": "x", "schema": schema, "strict": strict}
    return {"messages": TEXT, "response_format": {"type": "json_schema", "json_schema": json_schema}}


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "messages", "missing_required_parameter"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": "hello"}, "messages", "invalid_type"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content", "invalid_type"),
        (said({"type": "smell"}), "messages[0].content[0].type", "invalid_value"),
        (said({"type": "file"}), "messages[0].content[0].type", "unsupported_value"),
        ({"messages": asked("x", "https://example.com/a.png")}, URL, "invalid_image_url"),
        ({"messages": asked("x", "data:image/png;base64,@@@")}, URL, "invalid_base64"),
        ({"messages": asked("x", data_url(b"x"))}, URL, "image_parse_error"),
        ({"messages": asked("x", GOOD, detail="utmost")}, "messages[1].content[1].image_url.detail", "invalid_value"),
        ({"messages": TEXT, "tools": []}, "tools", "unsupported_value"),
        ({"messages": TEXT, "n": 2}, "n", "unsupported_value"),
        ({"messages": TEXT, "max_completion_tokens": 0}, "max_completion_tokens", "integer_below_min_value"),
        ({"messages": TEXT, "max_tokens": 10}, "max_tokens", "unsupported_parameter"),
        ({"messages": TEXT, "magic": 1}, "magic", "unknown_parameter"),
        ({"messages": TEXT, "stream_options": {"include_usage": True}}, "stream_options", None),
        ({"messages": TEXT, "response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
    ],
)
async def test_what_cannot_be_answered_is_refused_and_costs_nothing(
    emulator: Emulator, body: dict[str, Any], param: str, code: str | None
) -> None:
    key = new_key()
    answer = await emulator.http.post(
        "/v1/chat/completions", json={"model": CHAT_MODEL} | body, headers={"Idempotency-Key": key}
    )
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code)
    assert await emulator.charges(idempotency_key=key) == []


async def test_only_language_models_chat(emulator: Emulator) -> None:
    for model in ("gpt-image-2", "gpt-3"):
        with pytest.raises(openai.NotFoundError):
            await emulator.openai.chat.completions.create(model=model, messages=TEXT)


A_STRING = {"type": "object", "properties": {"a": {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({"type": "array"}, True),
        (A_STRING, True),
        (A_STRING | {"additionalProperties": False}, True),
        ({"not": {"type": "string"}}, False),
        ({"type": "string", "minLength": "two"}, False),
        ({"$ref": "#/$defs/gone"}, False),
        ({"$ref": "#"}, False),
        ({"enum": []}, False),
        ({"type": "integer", "minimum": 5, "maximum": 4}, False),
        ({"type": "array", "items": {"const": 1}, "uniqueItems": True, "minItems": 2}, False),
    ],
)
async def test_a_schema_that_cannot_be_answered_is_refused(
    emulator: Emulator, schema: dict[str, Any], strict: bool
) -> None:
    body = {"model": CHAT_MODEL} | with_schema(schema, strict=strict)
    answer = await emulator.http.post("/v1/chat/completions", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, "response_format", "invalid_json_schema")
