"""The contract as data: what the descriptor set says of every service, method, message and enum."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

ROOT = Path(__file__).resolve().parents[2]
DESCRIPTOR_SET = ROOT / "protos" / "gen" / "contentlab.binpb"
PACKAGE_PREFIX = "contentlab."


@dataclass(frozen=True)
class Binding:
    """One HTTP rule of a method."""

    verb: str
    path: str
    body: str


@cache
def file_set() -> descriptor_pb2.FileDescriptorSet:
    """The committed descriptor set, source info included."""
    return descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTOR_SET.read_bytes())


@cache
def pool() -> descriptor_pool.DescriptorPool:
    """A pool of its own, so that nothing imported elsewhere stands in for what the set lacks."""
    own = descriptor_pool.DescriptorPool()
    for file in file_set().file:
        own.Add(file)
    return own


def our_files() -> list[descriptor_pb2.FileDescriptorProto]:
    """The files of the suite, third-party ones left out."""
    return [file for file in file_set().file if file.package.startswith(PACKAGE_PREFIX)]


def services() -> list[ServiceDescriptor]:
    """All services, in order of their files."""
    return [
        pool().FindServiceByName(f"{file.package}.{service.name}") for file in our_files() for service in file.service
    ]


def methods() -> list[MethodDescriptor]:
    """All methods of all services."""
    return [method for service in services() for method in service.methods]


def messages() -> Iterator[Descriptor]:
    """All messages, nested ones too, map entries left out."""

    def walk(message: Descriptor) -> Iterator[Descriptor]:
        if not message.GetOptions().map_entry:
            yield message
            for nested in message.nested_types:
                yield from walk(nested)

    for file in our_files():
        for message in file.message_type:
            yield from walk(pool().FindMessageTypeByName(f"{file.package}.{message.name}"))


def enums() -> Iterator[EnumDescriptor]:
    """All enums, nested ones too."""
    for file in our_files():
        for enum in file.enum_type:
            yield pool().FindEnumTypeByName(f"{file.package}.{enum.name}")
    for message in messages():
        yield from message.enum_types


def fields() -> Iterator[FieldDescriptor]:
    """All fields of all messages."""
    for message in messages():
        yield from message.fields


def option(options: Message, extension: Any) -> Any:
    """The value of an extension option; the google.api modules do not say its type."""
    return cast("Any", options).Extensions[extension]


def http_rule(method: MethodDescriptor) -> http_pb2.HttpRule | None:
    """The `google.api.http` option of a method, read in this process's default pool's types."""
    raw = descriptor_pb2.MethodOptions.FromString(method.GetOptions().SerializeToString())
    found: http_pb2.HttpRule = option(raw, annotations_pb2.http)
    return found if raw.HasExtension(cast("Any", annotations_pb2.http)) else None


def bindings(method: MethodDescriptor) -> list[Binding]:
    """The HTTP bindings of a method; empty: gRPC-only."""
    rule = http_rule(method)
    if rule is None:
        return []
    found = []
    for one in (rule, *rule.additional_bindings):
        verb = one.WhichOneof("pattern")
        assert verb is not None
        found.append(Binding(verb.upper(), getattr(one, verb), one.body))
    return found


def comments() -> dict[str, str]:
    """Leading comment of every element that has one, by full name."""
    found: dict[str, str] = {}
    for file in our_files():
        by_path = {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}

        def enum_names(
            prefix: str, enum: descriptor_pb2.EnumDescriptorProto, path: tuple[int, ...]
        ) -> Iterator[tuple[str, tuple[int, ...]]]:
            yield f"{prefix}.{enum.name}", path
            for index, value in enumerate(enum.value):
                yield f"{prefix}.{enum.name}.{value.name}", (*path, 2, index)

        def message_names(
            prefix: str, message: descriptor_pb2.DescriptorProto, path: tuple[int, ...]
        ) -> Iterator[tuple[str, tuple[int, ...]]]:
            if message.options.map_entry:
                return
            name = f"{prefix}.{message.name}"
            yield name, path
            for index, field in enumerate(message.field):
                yield f"{name}.{field.name}", (*path, 2, index)
            for index, nested in enumerate(message.nested_type):
                yield from message_names(name, nested, (*path, 3, index))
            for index, enum in enumerate(message.enum_type):
                yield from enum_names(name, enum, (*path, 4, index))

        named: list[tuple[str, tuple[int, ...]]] = []
        for index, service in enumerate(file.service):
            named.append((f"{file.package}.{service.name}", (6, index)))
            named += [
                (f"{file.package}.{service.name}.{method.name}", (6, index, 2, place))
                for place, method in enumerate(service.method)
            ]
        for index, message in enumerate(file.message_type):
            named += message_names(file.package, message, (4, index))
        for index, enum in enumerate(file.enum_type):
            named += enum_names(file.package, enum, (5, index))
        found |= {name: by_path.get(path, "") for name, path in named}
    return found
