"""What the usage service reads from its environment."""

from pydantic import Field

from services.common.settings import Address, ServiceSettings


class UsageSettings(ServiceSettings):
    """Settings of one process of the usage service."""

    listen: Address = Field("127.0.0.1:50054", description="host:port of the gRPC server")
