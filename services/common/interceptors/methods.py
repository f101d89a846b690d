"""What the contract's descriptors say about a method."""

from functools import lru_cache
from typing import Any

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import MethodDescriptor


@lru_cache(maxsize=1024)
def is_read_only(path: str) -> bool:
    """Whether `/package.Service/Method` is bound to GET or declared free of side effects: safe to repeat."""
    method = _find(path)
    if method is None:
        return False
    options = method.GetOptions()
    if options.idempotency_level == descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS:
        return True
    extensions: Any = options.Extensions  # the stubs know no method options beyond protobuf's own
    return bool(extensions[annotations_pb2.http].get)


def _find(path: str) -> MethodDescriptor | None:
    try:
        return descriptor_pool.Default().FindMethodByName(path.removeprefix("/").replace("/", "."))
    except KeyError:
        return None
