"""The methods of the contract, read from its descriptor set and classified by how the gateway must treat them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2

PACKAGE_PREFIX = "contentlab."
HTTP_BODY = ".google.api.HttpBody"


class ContractError(Exception):
    """The descriptor set and this module disagree about what there is to route."""


class Kind(StrEnum):
    """How the gateway treats a method."""

    READ = "read"
    """No effects: retried whenever a retry may help."""
    WRITE = "write"
    """Effects but no cost: retried only when the connection was refused, so that nothing was sent."""
    PAID = "paid"
    """May spend money: never retried, time enough for a model."""
    PAID_STREAM = "paid_stream"
    """The same with a stream of answers."""
    WATCH = "watch"
    """A stream that stays open and is mostly silent."""
    DOWNLOAD = "download"
    UPLOAD = "upload"
    MOVE = "move"
    """A write during which the service moves a file of up to 2 GiB by itself."""

    @property
    def is_paid(self) -> bool:
        """Whether the method may spend money."""
        return self in (Kind.PAID, Kind.PAID_STREAM)


# What the descriptor alone does not say. Everything but a plain GET must be named here, lest a method that costs money
# be taken for one that does not.
_NAMED: Mapping[Kind, str] = {
    Kind.PAID: """
        ImageService.GenerateImages ImageService.EditImages ImageService.AnalyzeImage ImageService.EnhanceImagePrompt
        ImageService.ProtectImagePrompt ImageService.SuggestImageFilename ImageService.ResolveImageGeneration
        VideoService.CreateVideoJob VideoService.AnalyzeVideo VideoService.EnhanceVideoPrompt
        VideoService.ProtectVideoPrompt VideoService.SuggestVideoFilename VideoService.ResolveVideoJob
    """,
    Kind.PAID_STREAM: """
        ImageService.StreamGenerateImages ImageService.StreamEditImages VideoService.GenerateVideo
    """,
    Kind.WATCH: """
        VideoService.WatchVideoJob VideoService.StreamVideoJobEvents
        GalleryService.WatchAssets GalleryService.StreamAssetEvents
    """,
    Kind.DOWNLOAD: "GalleryService.DownloadAsset",
    Kind.UPLOAD: "GalleryService.UploadAsset GalleryService.UploadAssetContent",
    Kind.MOVE: "GalleryService.CompleteUpload",
    Kind.READ: "GalleryService.BatchGetAssets",
    Kind.WRITE: """
        ImageService.ResolvePaidCall
        VideoService.CancelVideoJob VideoService.DeleteVideoJob VideoService.ResolvePaidCall
        GalleryService.AnnotateAsset GalleryService.CreateUpload
        GalleryService.UpdateAsset GalleryService.DeleteAsset GalleryService.UndeleteAsset GalleryService.PurgeAsset
        GalleryService.BatchMoveAssets GalleryService.BatchDeleteAssets GalleryService.BatchTagAssets
        GalleryService.CreateAssetLink
        GalleryService.CreateFolder GalleryService.RenameFolder GalleryService.DeleteFolder
        UsageService.CreateBudget UsageService.UpdateBudget UsageService.DeleteBudget
    """,
}
KINDS: Mapping[str, Kind] = {key: kind for kind, keys in _NAMED.items() for key in keys.split()}
"""`Service.Method` and its kind."""

# Services among themselves only: the gateway has no route to them at all.
INTERNAL_SERVICES = frozenset({"UsageLedger"})


@dataclass(frozen=True, slots=True)
class Method:
    """One method that the gateway routes."""

    upstream: str
    """Which service process serves it: `image`, `video`, ..."""
    service: str
    """Full name of its service: `contentlab.image.v1.ImageService`."""
    name: str
    kind: Kind
    bindings: tuple[tuple[str, str], ...]
    """HTTP verbs and path templates; empty: gRPC-only."""
    has_inline_bytes: bool
    """Whether its JSON request can carry media as base64."""
    streams_answers: bool

    @property
    def path(self) -> str:
        """Its HTTP/2 path in gRPC."""
        return f"/{self.service}/{self.name}"


def load_methods(descriptor: Path) -> tuple[Method, ...]:
    """Every method that is to be routed, in the order of the contract.

    Raises:
        ContractError: the set cannot be read, a method is not classified, or one that is does not exist.
    """
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(descriptor.read_bytes())
    except (OSError, ValueError) as error:
        raise ContractError(f"cannot read the descriptor set {descriptor}: {error}") from error
    messages = dict(_messages(files))
    methods = tuple(_methods(files, messages))
    present = {_key(method.service, method.name) for method in methods}
    unknown = sorted(KINDS.keys() - present)
    if unknown:
        raise ContractError(f"methods that the contract does not have are classified: {', '.join(unknown)}")
    return methods


def classify(key: str, method: descriptor_pb2.MethodDescriptorProto) -> Kind:
    """The kind of the method `Service.Method`.

    Raises:
        ContractError: it is more than a plain GET, and nobody has said what.
    """
    if key in KINDS:
        return KINDS[key]
    streams = method.client_streaming or method.server_streaming
    if streams or {verb for verb, _ in _bindings(method)} != {"GET"}:
        raise ContractError(f"{key} is not classified: name it in gateway/contract.py, and think of who pays")
    return Kind.READ


def _methods(
    files: descriptor_pb2.FileDescriptorSet, messages: Mapping[str, descriptor_pb2.DescriptorProto]
) -> Iterator[Method]:
    for file in files.file:
        if not file.package.startswith(PACKAGE_PREFIX):
            continue
        for service in file.service:
            if service.name in INTERNAL_SERVICES:
                continue
            full_name = f"{file.package}.{service.name}"
            for method in service.method:
                yield Method(
                    upstream=file.package.split(".")[1],
                    service=full_name,
                    name=method.name,
                    kind=classify(_key(full_name, method.name), method),
                    bindings=tuple(_bindings(method)),
                    has_inline_bytes=not method.client_streaming and _has_bytes(method.input_type, messages, set()),
                    streams_answers=method.server_streaming,
                )


def _bindings(method: descriptor_pb2.MethodDescriptorProto) -> Iterator[tuple[str, str]]:
    extensions: Any = method.options.Extensions  # the stubs know no method options beyond protobuf's own
    rule = extensions[annotations_pb2.http]
    if not rule.WhichOneof("pattern"):
        return
    for binding in (rule, *rule.additional_bindings):
        verb = binding.WhichOneof("pattern")
        if verb is None or verb == "custom":
            raise ContractError(f"{method.name} has an HTTP binding without a standard verb")
        yield verb.upper(), getattr(binding, verb)


def _has_bytes(name: str, messages: Mapping[str, descriptor_pb2.DescriptorProto], seen: set[str]) -> bool:
    if name in seen:
        return False
    seen.add(name)
    return any(
        field.type == descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
        or (bool(field.type_name) and _has_bytes(field.type_name, messages, seen))
        for field in messages.get(name, descriptor_pb2.DescriptorProto()).field
    )


def _messages(files: descriptor_pb2.FileDescriptorSet) -> Iterator[tuple[str, descriptor_pb2.DescriptorProto]]:
    def walk(
        prefix: str, message: descriptor_pb2.DescriptorProto
    ) -> Iterator[tuple[str, descriptor_pb2.DescriptorProto]]:
        name = f"{prefix}.{message.name}"
        yield name, message
        for nested in message.nested_type:
            yield from walk(name, nested)

    for file in files.file:
        for message in file.message_type:
            yield from walk(f".{file.package}", message)


def _key(service: str, method: str) -> str:
    return f"{service.rpartition('.')[2]}.{method}"
