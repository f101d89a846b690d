"""What the image service reads from its environment."""

from pydantic import Field

from services.common.settings import Address, DatabaseSettings, ServiceSettings
from services.models.selection import ModelSettings


class ImageSettings(ServiceSettings, DatabaseSettings, ModelSettings):
    """Settings of one process of the image service."""

    listen: Address = Field("127.0.0.1:50051", description="host:port of the gRPC server")
    gallery_target: Address = Field("127.0.0.1:50053", description="host:port of the gallery's gRPC server")
    lease_seconds: float = Field(
        30.0, ge=0.5, le=600, description="seconds (0.5 to 600) after which a silent process's calls are taken for dead"
    )
    provider_seconds: float = Field(
        600.0, gt=0, le=3600, description="seconds that one call of a model may take (at most 3600)"
    )
    text_seconds: float = Field(
        180.0, gt=0, le=3600, description="seconds that one call of a language model may take (at most 3600)"
    )
    provider_calls: int = Field(64, ge=1, le=1000, description="calls of one endpoint at a time (1 to 1000)")
    provider_max_bytes: int = Field(
        512 * 1024 * 1024, ge=1024, description="largest answer of a provider in bytes; it is held in memory"
    )
    # Inline images of 20 MB and what is around them; the rest of the suite never needs more than 4 MiB.
    max_receive_bytes: int = Field(
        32 * 1024 * 1024, ge=64 * 1024, le=64 * 1024 * 1024, description="largest request message in bytes"
    )
    max_reference_bytes: int = Field(
        256 * 1024 * 1024,
        ge=1024,
        description="bytes of images to edit that are in memory at a time, and of inline ones as many again",
    )
    max_generations: int = Field(256, ge=1, le=10_000, description="generations under way in one process")
    # A call that is cut off has an unknown outcome: whoever began one before SIGTERM may see it end and be stored.
    drain_seconds: float = Field(
        660.0,
        ge=0,
        le=3600,
        description="seconds (0 to 3600) that running calls may finish in; above that of a call",
    )
    answer_seconds: float = Field(
        880.0, gt=0, le=3600, description="seconds that a call without a deadline waits for its generation"
    )
    retention_days: int = Field(
        90, ge=1, le=36_500, description="days that generations and paid calls are kept after their end (at least 1)"
    )
    upload_seconds: float = Field(30.0, gt=0, le=600, description="seconds that one upload to the gallery may take")
