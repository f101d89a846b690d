"""Serves the video service: `python -m services.video --help`."""

import sys
from functools import partial

from contentlab.video.v1 import video_service_pb2_grpc
from services.common.main import Command, main
from services.common.server import Application, Service, serve
from services.video.servicer import VideoServicer
from services.video.settings import VideoSettings

SERVICE_NAME = "contentlab.video.v1.VideoService"


async def run(settings: VideoSettings) -> None:
    """Serves until SIGTERM."""
    servicer = VideoServicer()  # type: ignore[abstract]  # what is not built answers UNIMPLEMENTED by its base class
    register = partial(video_service_pb2_grpc.add_VideoServiceServicer_to_server, servicer)
    await serve(Application([Service(SERVICE_NAME, register)]), settings)


if __name__ == "__main__":
    sys.exit(main("video", VideoSettings, {"serve": Command("serve RPCs until SIGTERM", run)}))
