"""What a provider says of its models' ends is in the service's environment and metrics, and holds nothing up."""

from aiohttp import web
from pydantic import SecretStr

from contentlab.image.v1 import image_service_pb2 as pb
from tests.image.galleries import ServedGallery
from tests.image.harness import Service, image_settings, running_image, selection_for, until
from tests.models.test_lifecycles import listing

CARDS = {"data": [{"id": "gpt-image-2", "shutdown_date": "2027-04-21"}]}


async def test_an_end_that_the_provider_tells_is_a_warning_of_the_service(
    gallery: ServedGallery, token_file: str, database_url: str
) -> None:
    settings = image_settings(database_url, gallery_target=gallery.address, service_token_file=token_file)
    async with (
        listing(lambda: web.json_response(CARDS)) as url,
        running_image(settings, selection_for(url)) as service,
    ):
        found = await until(lambda: warnings(service, "gpt-image-2 is shut down on 2027-04-21"))
        assert len(found) == 1
        assert service.metric("contentlab_model_shutdown_timestamp_seconds", model="gpt-image-2") > 0
        assert service.metric("contentlab_models_not_listed") > 0


async def test_a_provider_that_is_not_there_keeps_no_service_from_serving(
    gallery: ServedGallery, token_file: str, database_url: str
) -> None:
    settings = image_settings(
        database_url,
        gallery_target=gallery.address,
        service_token_file=token_file,
        openai_base_url="http://127.0.0.1:1/v1",
        openai_api_key=SecretStr("made-up"),
    )
    async with running_image(settings) as service:
        models = await service.stub.ListImageModels(pb.ListImageModelsRequest(), timeout=10)
        assert models.image_models
        assert not await warnings(service, "shut down")


async def warnings(service: Service, words: str) -> list[str]:
    """The environment's warnings with these words in them."""
    environment = await service.stub.GetImageEnvironment(pb.GetImageEnvironmentRequest(), timeout=10)
    return [warning for warning in environment.warnings if words in warning]
