"""What the gallery reads from the environment."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator

from services.common.settings import Address, DatabaseSettings, ServiceSettings

KIB = 1024
MIB = 1024 * KIB


# Azure's rule; a wrong name would answer with a confusing error, and only at the first request.
_CONTAINER = re.compile(r"(?=.{3,63}$)[a-z0-9]+(?:-[a-z0-9]+)*")


def _container(value: str) -> str:
    if not _CONTAINER.fullmatch(value):
        raise ValueError("not a container name")
    return value


Container = Annotated[str, AfterValidator(_container)]


class GallerySettings(ServiceSettings, DatabaseSettings):
    """Storage is signed in to by connection string, by account key, or by workload identity, in this order."""

    listen: Address = Field("127.0.0.1:50053", description="host:port of the gRPC server")

    azure_storage_connection_string: SecretStr | None = Field(
        None, validation_alias="AZURE_STORAGE_CONNECTION_STRING", description="connection string of a storage account"
    )
    azure_storage_account_name: str | None = Field(
        None, validation_alias="AZURE_STORAGE_ACCOUNT_NAME", description="name of a storage account"
    )
    azure_storage_account_key: SecretStr | None = Field(
        None,
        validation_alias="AZURE_STORAGE_ACCOUNT_KEY",
        description="key of the account; unset: workload identity (DefaultAzureCredential)",
    )
    azure_blob_service_url: str | None = Field(
        None,
        validation_alias="AZURE_BLOB_SERVICE_URL",
        description="http(s)://... of the blob service; unset: the account's own. "
        "One of this, AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_CONNECTION_STRING is needed",
    )
    azure_blob_public_url: str | None = Field(
        None,
        validation_alias="AZURE_BLOB_PUBLIC_URL",
        description="http(s)://... under which clients reach the blob service with links, such as a CDN's; "
        "unset: the service's own URL",
    )
    image_container: Container = Field(
        "images", validation_alias="AZURE_BLOB_IMAGE_CONTAINER", description="name of the container of images"
    )
    video_container: Container = Field(
        "videos", validation_alias="AZURE_BLOB_VIDEO_CONTAINER", description="name of the container of videos"
    )
    storage_wait_seconds: float = Field(
        60.0, ge=0, le=3600, description="seconds to wait at start for blob storage to come up"
    )

    max_upload_bytes: int = Field(512 * MIB, ge=1, le=2048 * MIB, description="largest upload in bytes, at most 2 GiB")
    max_direct_upload_bytes: int = Field(
        2048 * MIB, ge=1, le=2048 * MIB, description="largest direct upload to storage in bytes, at most 2 GiB"
    )
    direct_upload_seconds: int = Field(
        6 * 3600,
        ge=3600,
        le=24 * 3600,
        description="seconds that a direct upload may take (3600 to 86400); 2 GiB in six hours are 100 kB/s",
    )
    max_open_direct_uploads: int = Field(
        1_000,
        ge=1,
        le=10_000,
        description="links of direct uploads that one owner may have at a time; also one whose upload is completed "
        "can write until it expires",
    )
    max_concurrent_uploads: int = Field(
        16, ge=1, le=1000, description="uploads of users taken in at a time, and as many of services; more wait"
    )
    max_concurrent_uploads_per_principal: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="of those, uploads of one user at a time; unset: a quarter of them, at least 1",
    )
    upload_wait_seconds: float = Field(
        30.0, gt=0, le=600, description="seconds that an upload waits for its turn before it is UNAVAILABLE"
    )
    upload_idle_seconds: float = Field(
        30.0, gt=0, le=600, description="seconds without a byte after which an upload is given up"
    )
    upload_minimum_rate: int = Field(
        16 * KIB, ge=1, le=MIB, description="bytes a second that an upload needs on average, or is given up"
    )
    download_idle_seconds: float = Field(
        240.0,
        gt=0,
        le=600,
        description="seconds that a reader may take for one message (256 KiB) of a download; "
        "the gateway, which sees every byte, gives up sooner who takes none",
    )
    spool_directory: str | None = Field(
        None, description="directory for uploads above 4 MiB while they come in; unset: the system's"
    )
    max_image_pixels: int = Field(
        100_000_000, ge=1, le=1_000_000_000, description="largest image in pixels, width times height"
    )
    inspection_workers: int = Field(2, ge=1, le=64, description="processes that decode images")
    inspection_seconds: float = Field(20.0, gt=0, le=300, description="seconds that the decoding of one file may take")
    inspection_memory_bytes: int = Field(
        2048 * MIB, ge=256 * MIB, description="address space of one decoding process in bytes"
    )
    store_seconds: float = Field(
        600.0, gt=0, le=3600, description="seconds that storing an upload may take, once its bytes are verified"
    )
    leftover_seconds: float = Field(
        3600.0,
        gt=0,
        le=7 * 86_400,
        description="seconds after which what a broken upload left in storage is removed, at least twice "
        "CONTENTLAB_STORE_SECONDS",
    )
    derivative_workers: int = Field(
        2,
        ge=1,
        le=64,
        description="processes that make previews, thumbnails and posters for requests; one owner has all but one. "
        "One more makes them in the background, while nobody else wants the processor",
    )
    derivative_seconds: float = Field(
        30.0, gt=0, le=300, description="seconds that making the derivatives of one asset may take, once it is read"
    )
    derivative_wait_seconds: float = Field(
        30.0, gt=0, le=300, description="seconds that a request waits for a derivative that is being made"
    )
    derivative_lease_seconds: float = Field(
        300.0, ge=1, le=3600, description="seconds after which another process takes over what one has begun to make"
    )
    derive_on_ingest: bool = Field(
        True, description="make derivatives in the background after an upload; false: when somebody asks first"
    )
    delete_retention_days: int = Field(30, ge=1, le=3650, description="days that a soft-deleted asset can be undeleted")

    max_watchers: int = Field(2_000, ge=1, le=20_000, description="streams of changes that one process serves")
    max_watchers_per_principal: int = Field(
        200, ge=1, le=20_000, description="streams of changes that one principal may have open at one process"
    )
    watch_checkpoint_seconds: float = Field(
        10.0, gt=0, le=15, description="seconds between checkpoints of a stream of changes, at most 15"
    )
    watch_outage_seconds: float = Field(
        60.0, gt=0, le=600, description="seconds without the database after which streams of changes are UNAVAILABLE"
    )
    watch_lifetime_seconds: float = Field(
        3_300.0,
        gt=0,
        le=3_500,
        description="seconds that a stream of changes lives at most, below the gateway's 3600; who watches "
        "on signs in anew, so nobody whose access has ended is told for longer",
    )
    watch_stall_seconds: float = Field(
        60.0, gt=0, le=600, description="seconds that a reader may take for one change before its stream is ended"
    )

    @field_validator("azure_blob_service_url")
    @classmethod
    def _storage_is_named(cls, value: str | None, info: ValidationInfo) -> str | None:
        others = (info.data.get("azure_storage_connection_string"), info.data.get("azure_storage_account_name"))
        if value is None and not any(others):
            raise ValueError("no storage account")
        if value is not None and not value.startswith(("https://", "http://")):
            raise ValueError("not a URL")
        return value

    @field_validator("azure_blob_public_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("not a URL")
        return value

    @field_validator("leftover_seconds")
    @classmethod
    def _nothing_is_swept_while_it_is_stored(cls, value: float, info: ValidationInfo) -> float:
        if value < 2 * info.data.get("store_seconds", 0):
            raise ValueError("less than twice store_seconds")
        return value

    @property
    def storage_auth(self) -> str:
        """How the service signs in to storage, in the contract's words."""
        if self.azure_storage_connection_string is not None:
            return "connection_string"
        return "account_key" if self.azure_storage_account_key is not None else "workload_identity"
