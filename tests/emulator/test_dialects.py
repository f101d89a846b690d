"""Each dialect does what the server it stands for does, and nothing that server does not."""

from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncAzureOpenAI

from emulator.dialects import DIALECTS, dialect_of
from tests.emulator.harness import MODEL, Emulator, clients, files, new_key, opened, png, process, running
from tests.emulator.test_server import run_to_end

IMAGE = {"vllm-omni": "Qwen/Qwen-Image", "sglang": "Qwen/Qwen-Image", "localai": "sd-3.5-medium-ggml",
         "litellm": "openai/gpt-image-2", "azure-v1": "gpt-image-2"}  # fmt: skip
CHAT = {"vllm-omni": "Qwen/Qwen3-VL-8B-Instruct", "sglang": "Qwen/Qwen3-VL-8B-Instruct",
        "localai": "qwen3-vl-8b-instruct", "litellm": "openai/gpt-6-luna", "openai": "gpt-6-luna"}  # fmt: skip
AZURE, LEGACY = "/dialects/azure-v1/openai/v1", "/dialects/azure-legacy/openai/deployments"
GENERATIONS = "/images/generations"


async def post(emulator: Emulator, path: str, **body: Any) -> httpx2.Response:
    return await emulator.http.post(path, json={"prompt": "a boat", **body})


def upload(**files: bytes) -> dict[str, Any]:
    return {name: (f"{name}.png", data, "image/png") for name, data in files.items()}


# Azure


async def test_azure_v1_takes_a_deployments_name_and_either_credential() -> None:
    async with running(deployments={"pictures": "gpt-image-2"}) as emulator:
        for headers in ({"api-key": "k", "authorization": ""}, {"authorization": "Bearer token"}):
            for query in ("", "?api-version=preview"):
                url = f"{AZURE}{GENERATIONS}{query}"
                answer = await emulator.http.post(url, json={"model": "pictures", "prompt": "x"}, headers=headers)
                assert answer.status_code == 200
        for model in ("gpt-image-2", "Pictures"):
            refused = await post(emulator, AZURE + GENERATIONS, model=model)
            assert (refused.status_code, refused.json()["error"]["code"]) == (404, "DeploymentNotFound")
            assert set(refused.json()["error"]) == {"code", "message"}
        [charge, *_] = await emulator.charges()
        assert (charge["model"], charge["dialect"]) == ("gpt-image-2", "azure-v1")
        assert charge["endpoint"] == "/v1/images/generations"
        assert (await post(emulator, "/v1/images/generations", model="gpt-image-2")).status_code == 200


async def test_azure_has_neither_webp_nor_the_qualities_beyond_high(emulator: Emulator) -> None:
    for change, param in (
        ({"output_format": "webp"}, "output_format"),
        ({"output_format": "gif"}, "output_format"),
        ({"quality": "max"}, "quality"),
    ):
        refused = await post(emulator, AZURE + GENERATIONS, model=MODEL, **change)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert (await post(emulator, AZURE + GENERATIONS, model=MODEL, output_format="jpeg")).is_success


async def test_azure_refuses_a_call_without_a_key_in_a_shape_of_its_own(emulator: Emulator) -> None:
    async with httpx2.AsyncClient(base_url=emulator.url) as http:
        answer = await http.post(AZURE + GENERATIONS, json={"model": MODEL, "prompt": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "401")


@pytest.mark.parametrize(
    ("code", "inner"),
    [("content_filter", "innererror"), ("contentFilter", "innererror"), ("content_policy_violation", "inner_error")],
)
async def test_azures_filter_has_had_several_spellings(emulator: Emulator, code: str, inner: str) -> None:
    prompt = new_key()
    await emulator.fault("content_filter", prompt, filter_code=code)
    refused = await post(emulator, AZURE + GENERATIONS, model=MODEL, prompt=prompt)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, code)
    assert error[inner]["code"] == "ResponsibleAIPolicyViolation"


async def test_legacy_azure_names_the_deployment_in_the_path_and_wants_a_version() -> None:
    async with running(deployments={"pictures": "gpt-image-2", "words": "gpt-6-luna"}) as emulator:
        async with AsyncAzureOpenAI(
            azure_endpoint=f"{emulator.url}/dialects/azure-legacy",
            api_version="2025-04-01-preview",
            api_key="k",
            max_retries=0,
        ) as client:
            drawn = await client.images.generate(model="pictures", prompt="x")
            assert opened(files(drawn)[0]).format == "PNG"
            source = ("a.png", png(64, 64, (1, 2, 3)), "image/png")
            assert files(await client.images.edit(model="pictures", image=source, prompt="x"))
            said = await client.chat.completions.create(model="words", messages=[{"role": "user", "content": "x"}])
            assert said.choices[0].message.content
            with pytest.raises(openai.NotFoundError) as refused:
                await client.images.generate(model="others", prompt="x")
            assert refused.value.code == "DeploymentNotFound"
        path = f"{LEGACY}/pictures{GENERATIONS}"
        assert (await post(emulator, f"{path}?api-version=1", model="another name")).is_success
        refused_answer = await post(emulator, path)
        assert refused_answer.status_code == 404
        assert refused_answer.json() == {"error": {"code": "404", "message": "Resource not found"}}


async def test_azure_ends_models_on_its_own_days_and_tells_them_otherwise(emulator: Emulator) -> None:
    answer = await emulator.http.get(f"{AZURE}/models")
    cards = {card["id"]: card for card in answer.json()["data"]}
    assert cards["gpt-image-1.5"]["deprecation"] == {"inference": 1797379200}  # 2026-12-16
    assert not any("shutdown_date" in card or card["id"].startswith("gpt-image-2.6") for card in cards.values())


# vLLM-Omni


async def test_vllm_omni_needs_no_model_but_refuses_a_wrong_one(emulator: Emulator) -> None:
    path = f"/dialects/vllm-omni/v1{GENERATIONS}"
    for model in ({}, {"model": "Qwen/Qwen-Image"}, {"model": None}):
        answer = await post(emulator, path, **model)
        assert answer.is_success
        assert "usage" not in answer.json()
    wrong = await post(emulator, path, model=MODEL)
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, 400)
    assert wrong.json()["error"]["message"].startswith("Model mismatch")


async def test_vllm_omni_refuses_auto_as_a_size_and_ignores_what_it_does_not_know(emulator: Emulator) -> None:
    client = emulator.spoken("vllm-omni")
    with pytest.raises(openai.BadRequestError):
        await client.images.generate(model=IMAGE["vllm-omni"], prompt="x", size="auto")
    drawn = await client.images.generate(
        model=IMAGE["vllm-omni"], prompt="x", quality="max", background="transparent", moderation="low", size="500x300",
        extra_body={"sampler": "euler", "output_format": "gif"},
    )  # fmt: skip
    picture = opened(files(drawn)[0])
    # Not transparent, not 16 to a side, and a format it does not know comes as JPEG.
    assert (picture.size, picture.mode, picture.format) == ((500, 300), "RGB", "JPEG")
    assert (drawn.quality, drawn.background, drawn.usage) == (None, None, None)


async def test_vllm_omni_answers_a_stream_request_with_one_body_and_refuses_it_for_edits(emulator: Emulator) -> None:
    answer = await post(emulator, f"/dialects/vllm-omni/v1{GENERATIONS}", stream=True, partial_images=2)
    assert answer.headers["content-type"] == "application/json"
    source = upload(image=png(64, 64, (1, 2, 3)))
    form = {"prompt": "x", "stream": "true"}
    refused = await emulator.http.post("/dialects/vllm-omni/v1/images/edits", data=form, files=source)
    assert refused.status_code == 400
    assert "multi-stage" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("dialect", "field", "used"),
    [
        ("vllm-omni", "mask_image", True),
        ("vllm-omni", "mask", False),
        ("sglang", "mask", False),
        ("openai", "mask", True),
    ],
)
async def test_a_mask_counts_only_under_the_name_it_has_there(
    emulator: Emulator, dialect: str, field: str, used: bool
) -> None:
    red, masked = png(128, 128, (200, 0, 0)), png(128, 128, (0, 0, 0, 0), "RGBA")
    form = {"prompt": "x", "model": IMAGE.get(dialect, MODEL)}
    sent = upload(image=red) | upload(**{field: masked})
    key = new_key()
    answer = await emulator.http.post(
        f"/dialects/{dialect}/v1/images/edits", data=form, files=sent, headers={"Idempotency-Key": key}
    )
    assert answer.is_success, answer.text
    assert (await emulator.charge(key))["parameters"]["mask"] is used


async def test_an_edit_without_a_size_gets_that_of_its_picture(emulator: Emulator) -> None:
    for dialect in ("vllm-omni", "sglang"):
        client = emulator.spoken(dialect)
        source = ("a.png", png(200, 120, (1, 2, 3)), "application/octet-stream")
        drawn = await client.images.edit(model=IMAGE[dialect], image=source, prompt="x")
        assert opened(files(drawn)[0]).size == (200, 120)


# SGLang


async def test_sglang_wants_base64_asked_for_and_says_so_in_a_detail(emulator: Emulator) -> None:
    path = f"/dialects/sglang/v1{GENERATIONS}"
    for asked in ({}, {"response_format": "url"}, {"response_format": "file"}):
        refused = await post(emulator, path, **asked)
        assert (refused.status_code, set(refused.json())) == (400, {"detail"})
    drawn = await emulator.spoken("sglang").images.generate(
        model="any name will do", prompt="a boat", response_format="b64_json", n=2
    )
    assert [opened(data).format for data in files(drawn)] == ["JPEG", "JPEG"]
    assert drawn.data is not None
    assert drawn.data[0].revised_prompt == "a boat"
    raw = (await post(emulator, path, response_format="b64_json", n=40)).json()
    assert len(raw["data"]) == raw["usage"]["image_count"] == 10, "n is brought into its bounds"
    assert raw["usage"]["total_tokens"] == raw["usage"]["prompt_tokens"] + raw["usage"]["completion_tokens"]
    assert "input_tokens" not in raw["usage"]


@pytest.mark.parametrize(("quality", "accepted"), [("auto", True), ("high", True), ("low", False), ("medium", False)])
async def test_sglang_has_qualities_of_its_own(emulator: Emulator, quality: str, accepted: bool) -> None:
    answer = await post(
        emulator, f"/dialects/sglang/v1{GENERATIONS}", response_format="b64_json", quality=quality, size="256x256"
    )
    assert answer.is_success is accepted


async def test_sglangs_transparent_background_only_chooses_the_format(emulator: Emulator) -> None:
    drawn = await emulator.spoken("sglang").images.generate(
        model="x", prompt="x", response_format="b64_json", background="transparent", size="256x256"
    )
    picture = opened(files(drawn)[0])
    assert (picture.format, picture.mode) == ("PNG", "RGB")


# LiteLLM and LocalAI


async def test_litellm_tells_the_cost_in_a_header_and_names_the_provider(emulator: Emulator) -> None:
    key = new_key()
    client = emulator.spoken("litellm").images.with_raw_response
    raw = await client.generate(
        model=IMAGE["litellm"], prompt="a boat", quality="low", extra_headers={"Idempotency-Key": key}
    )
    cost = (await emulator.charge(key))["cost_micro_usd"]
    assert round(float(raw.headers["x-litellm-response-cost"]) * 1_000_000) == cost > 0
    assert raw.headers["x-litellm-call-id"]
    assert raw.parse().usage is not None
    with pytest.raises(openai.BadRequestError) as refused:
        await emulator.spoken("litellm").images.generate(model="gpt-image-2", prompt="x")
    assert refused.value.code == "400"
    [card, *_] = (await emulator.http.get("/dialects/litellm/v1/models")).json()["data"]
    assert card == {"id": "openai/gpt-image-1-mini", "object": "model", "created": 1677610602, "owned_by": "openai"}


async def test_litellm_loses_the_providers_code_and_keeps_its_words(emulator: Emulator) -> None:
    prompt = new_key()
    await emulator.fault("moderation_blocked", prompt)
    with pytest.raises(openai.BadRequestError) as blocked:
        await emulator.spoken("litellm").images.generate(model=IMAGE["litellm"], prompt=prompt)
    assert blocked.value.code == "400"
    assert "ContentPolicyViolationError" in blocked.value.message
    assert "safety_violations" in blocked.value.message


async def test_localai_answers_by_address_unless_base64_is_asked_for(emulator: Emulator) -> None:
    client = emulator.spoken("localai")
    shown = await client.images.generate(model=IMAGE["localai"], prompt="x", size="auto")
    assert shown.data is not None
    picture = await emulator.http.get(shown.data[0].url or "")
    assert opened(picture.content).size == (512, 512)
    drawn = await client.images.generate(model=IMAGE["localai"], prompt="x", response_format="b64_json", size="320x256")
    assert opened(files(drawn)[0]).size == (320, 256)
    assert drawn.usage is not None
    assert drawn.usage.total_tokens == 0, "its usage is there and says nothing"
    missing = await emulator.http.get("/dialects/localai/generated-images/none.png")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, 404)


async def test_localai_has_no_edits(emulator: Emulator) -> None:
    with pytest.raises(openai.NotFoundError):
        await emulator.spoken("localai").images.edit(model=IMAGE["localai"], image=b"x", prompt="x")


# Keys and models


async def test_servers_of_ones_own_need_no_key_unless_one_is_required(emulator: Emulator) -> None:
    async with running(require_key="sk-right") as strict, httpx2.AsyncClient() as http:
        for dialect in DIALECTS:
            path = {"azure-v1": AZURE, "azure-legacy": "/dialects/azure-legacy/openai"}.get(
                dialect, f"/dialects/{dialect}/v1"
            )
            keyless = dialect in ("vllm-omni", "sglang", "localai")
            assert (await http.get(f"{emulator.url}{path}/models?api-version=1")).is_success is keyless
            assert (await http.get(f"{strict.url}{path}/models?api-version=1")).status_code == 401


@pytest.mark.parametrize("dialect", ["vllm-omni", "sglang", "localai", "litellm", "azure-v1"])
async def test_only_openais_own_models_tell_a_shutdown_date(emulator: Emulator, dialect: str) -> None:
    root = AZURE if dialect == "azure-v1" else f"/dialects/{dialect}/v1"
    cards = (await emulator.http.get(f"{root}/models")).json()["data"]
    assert IMAGE[dialect] in {card["id"] for card in cards}
    assert not any("shutdown_date" in card for card in cards)
    assert (await emulator.http.get(f"{root}/models/{IMAGE[dialect]}")).json()["id"] == IMAGE[dialect]


async def test_an_address_belongs_to_the_dialects_that_have_it(emulator: Emulator) -> None:
    for path in (
        f"/openai/v1{GENERATIONS}",
        f"/dialects/azure-v1/v1{GENERATIONS}",
        f"/dialects/openai/openai/v1{GENERATIONS}",
        f"{LEGACY}{GENERATIONS}?api-version=1",
        f"/dialects/klingon/v1{GENERATIONS}",
        f"/dialects/openai+warp/v1{GENERATIONS}",
        "/dialects/openai",
    ):
        assert (await post(emulator, path, model=MODEL)).status_code == 404


# Chats

SCHEMA: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "x",
        "strict": True,
        "schema": {
            "type": "object", "properties": {"tag": {"type": "string"}}, "required": ["tag"],
            "additionalProperties": False,
        },
    },
}  # fmt: skip
OBJECT: Any = {"type": "json_object"}
MESSAGES: Any = [{"role": "user", "content": "Name one tag, as json."}]


@pytest.mark.parametrize("dialect", sorted(CHAT))
async def test_every_dialect_with_chats_answers_to_a_schema(emulator: Emulator, dialect: str) -> None:
    said = await emulator.spoken(dialect).chat.completions.create(
        model=CHAT[dialect], messages=MESSAGES, response_format=SCHEMA
    )
    assert (said.choices[0].message.content or "").startswith('{"tag":')
    assert said.usage is not None
    assert (said.usage.prompt_tokens_details is None) is (dialect in ("vllm-omni", "sglang", "localai"))


@pytest.mark.parametrize(("option", "asked"), [("schema", SCHEMA), ("object", OBJECT)])
async def test_a_response_format_can_be_refused_or_silently_ignored(
    emulator: Emulator, option: str, asked: Any
) -> None:
    refusing, ignoring = (emulator.spoken(f"vllm-omni+{option}-{how}") for how in ("refused", "ignored"))
    with pytest.raises(openai.BadRequestError, match="response_format"):
        await refusing.chat.completions.create(model=CHAT["vllm-omni"], messages=MESSAGES, response_format=asked)
    said = await ignoring.chat.completions.create(model=CHAT["vllm-omni"], messages=MESSAGES, response_format=asked)
    assert not (said.choices[0].message.content or "").startswith("{"), "prose was wanted"
    other = OBJECT if option == "schema" else SCHEMA
    said = await refusing.chat.completions.create(model=CHAT["vllm-omni"], messages=MESSAGES, response_format=other)
    assert (said.choices[0].message.content or "").startswith("{")


@pytest.mark.parametrize(
    ("dialect", "model", "name", "outcome"),
    [
        ("openai", "gpt-6-luna", "max_completion_tokens", "cut"),
        ("openai", "gpt-6-luna", "max_tokens", "refused"),
        ("openai", "gpt-4.1", "max_tokens", "cut"),
        ("litellm", "openai/gpt-6-luna", "max_tokens", "cut"),
        ("vllm-omni", CHAT["vllm-omni"], "max_tokens", "cut"),
        ("sglang", CHAT["sglang"], "max_completion_tokens", "cut"),
        ("localai", CHAT["localai"], "max_tokens", "cut"),
        ("localai", CHAT["localai"], "max_completion_tokens", "whole"),
        ("openai+max-tokens-only", "gpt-6-luna", "max_tokens", "cut"),
        ("openai+max-tokens-only", "gpt-6-luna", "max_completion_tokens", "refused"),
    ],
)
async def test_a_limit_on_tokens_has_the_name_that_the_model_knows(
    emulator: Emulator, dialect: str, model: str, name: str, outcome: str
) -> None:
    body = {"model": model, "messages": MESSAGES, name: 2}
    answer = await emulator.http.post(f"/dialects/{dialect}/v1/chat/completions", json=body)
    if outcome == "refused":
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)
        return
    assert answer.json()["choices"][0]["finish_reason"] == ("length" if outcome == "cut" else "stop")


async def test_an_unknown_chat_parameter_is_refused_by_openai_only(emulator: Emulator) -> None:
    for dialect, model in CHAT.items():
        body = {"model": model, "messages": MESSAGES, "top_k": 4}
        answer = await emulator.http.post(f"/dialects/{dialect}/v1/chat/completions", json=body)
        assert answer.is_success is (dialect not in ("openai", "litellm"))


@pytest.mark.parametrize(
    ("dialect", "status", "shape"),
    [
        ("vllm-omni", 404, {"error"}),
        ("sglang", None, set()),
        ("localai", 404, {"error"}),
        ("litellm", 400, {"error"}),
    ],
)
async def test_a_wrong_chat_model(emulator: Emulator, dialect: str, status: int | None, shape: set[str]) -> None:
    body = {"model": "nobody", "messages": MESSAGES}
    answer = await emulator.http.post(f"/dialects/{dialect}/v1/chat/completions", json=body)
    if status is None:
        assert answer.is_success
    else:
        assert (answer.status_code, set(answer.json())) == (status, shape)


async def test_an_error_of_sglangs_chats_is_flat(emulator: Emulator) -> None:
    answer = await emulator.http.post("/dialects/sglang/v1/chat/completions", json={"model": "x"})
    assert (answer.status_code, answer.json()["object"], answer.json()["code"]) == (400, "error", 400)


# The command line


async def test_a_process_speaks_the_dialect_it_was_started_with() -> None:
    arguments = ("--dialect", "azure-v1+schema-refused", "--deployment", "mine=gpt-image-2")
    async with process(*arguments) as (_, url), clients(url) as emulator:
        assert (await post(emulator, f"/openai/v1{GENERATIONS}", model="mine", quality="low")).is_success
        assert (await post(emulator, f"/v1{GENERATIONS}", model="mine")).status_code == 404
        [charge] = await emulator.charges()
        assert charge["dialect"] == "azure-v1+schema-refused"


@pytest.mark.parametrize(
    "arguments", [["--dialect", "klingon"], ["--dialect", "openai+warp"], ["--deployment", "nameless"]]
)
async def test_a_dialect_that_does_not_exist_ends_the_start(arguments: list[str]) -> None:
    code, text = await run_to_end(*arguments)
    assert (code, arguments[0] in text) == (2, True)


def test_options_turn_single_switches_and_leave_the_row_alone() -> None:
    turned = dialect_of("sglang+schema-ignored+object-refused")
    assert (turned.json_schema, turned.json_object, turned.name) == ("ignored", "refused", "sglang")
    assert DIALECTS["sglang"].json_schema == "yes"
