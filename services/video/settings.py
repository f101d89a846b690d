"""What the video service reads from its environment."""

from pydantic import Field

from services.common.settings import Address, ServiceSettings


class VideoSettings(ServiceSettings):
    """Settings of one process of the video service."""

    listen: Address = Field("127.0.0.1:50052", description="host:port of the gRPC server")
