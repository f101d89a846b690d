"""What watchers are told, as messages of the contract and as server-sent events. Pure.

The framing is that of the HTML standard, section "Server-sent events".
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from contentlab.gallery.v1 import gallery_service_pb2 as pb
from services.common.errors import ServiceError
from services.common.status import to_status
from services.gallery.convert_assets import asset_message
from services.gallery.domain.changes import ChangeType
from services.gallery.watching import Told

LAST_EVENT_ID_KEY = "last-event-id"
"""What EventSource sends when it connects again."""

EVENT_STREAM = "text/event-stream"
EVENT_HEADERS = (
    ("cache-control", "no-cache"),
    # Proxies of nginx's kind hold answers back unless they are told not to.
    ("x-accel-buffering", "no"),
)
RECONNECT_MS = 2_000

# No ends of lines to the standard, but to clients that split lines as Unicode does.
_LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}

_TYPES = {
    ChangeType.CREATED: pb.WatchAssetsResponse.CREATED,
    ChangeType.UPDATED: pb.WatchAssetsResponse.UPDATED,
    ChangeType.DELETED: pb.WatchAssetsResponse.DELETED,
    ChangeType.PURGED: pb.WatchAssetsResponse.PURGED,
}


def resume_token_of(request: pb.StreamAssetEventsRequest, metadata: Mapping[str, str]) -> str:
    """The token that EventSource brings along, else that of the request."""
    return metadata.get(LAST_EVENT_ID_KEY) or request.resume_token


def watch_message(told: Told) -> pb.WatchAssetsResponse:
    """The answer of `WatchAssets`; of a purged asset only the name is left."""
    if told.event is None:
        return pb.WatchAssetsResponse(change_type=pb.WatchAssetsResponse.CHECKPOINT, resume_token=told.token)
    event = told.event
    asset = asset_message(event.asset, full=False) if event.asset else pb.Asset(name=f"assets/{event.asset_id}")
    return pb.WatchAssetsResponse(change_type=_TYPES[event.type], asset=asset, resume_token=told.token)


async def server_sent_events(stream: AsyncIterator[Told], request_id: str) -> AsyncGenerator[HttpBody, None]:
    """The stream as text. An error after the first event is told as the last one, and raised then.

    Before the first event an error has a status of its own, which EventSource takes as final.
    """
    yield _body(f"retry: {RECONNECT_MS}\n{_event(await anext(stream))}")
    try:
        async for told in stream:
            yield _body(_event(told))
    except ServiceError as error:
        status = to_status(error, request_id=request_id)
        yield _body(f"event: error\ndata: {_json(status)}\n\n")
        raise


def _event(told: Told) -> str:
    """One event. A checkpoint is a comment too: a sign of life even for those who look for no event of this name."""
    name, sign = ("checkpoint", ": alive\n") if told.event is None else (told.event.type.value, "")
    return f"{sign}id: {told.token}\nevent: {name}\ndata: {_json(watch_message(told))}\n\n"


def _json(message: Message) -> str:
    """One line, with the fields that the gateway's own JSON has."""
    text = MessageToJson(message, indent=None, always_print_fields_with_no_presence=True, ensure_ascii=False)
    return text.translate(_LINE_ENDS)


def _body(text: str) -> HttpBody:
    return HttpBody(content_type=EVENT_STREAM, data=text.encode())
