"""grpcio-testing for async servicers: the only place that may import `grpc_testing`.

grpcio-testing calls a method in a thread and takes what it returns for the answer. Of an async servicer that is a
coroutine nobody awaits: the call "ends" with OK even if the method raises (grpc/grpc#24942, open since 2020). This
bridge runs the method to its end on the test's own event loop, so that engines and channels of the test can be used,
through real (de)serialisers and, where given, the real interceptors.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import grpc_testing
from google.protobuf import message_factory
from google.protobuf.message import Message

Metadata = Sequence[tuple[str, str | bytes]]

_END = object()
MAKERS: dict[tuple[bool, bool], Callable[..., Any]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


@dataclass(frozen=True)
class Outcome:
    """How a call ended: all its responses, its code and what came with it."""

    responses: list[Any]
    code: grpc.StatusCode
    details: str
    trailing_metadata: dict[str, str | bytes]

    @property
    def response(self) -> Any:
        """The response of a call that has exactly one."""
        (response,) = self.responses
        return response


@dataclass(frozen=True)
class Details:
    """grpc.HandlerCallDetails as interceptors read it."""

    method: str
    invocation_metadata: Metadata


class BridgedServer:
    """A grpcio-testing server around an async servicer.

    `service` is the service's descriptor (`pb.DESCRIPTOR.services_by_name["GalleryService"]`). Make it within the
    running event loop of the test.
    """

    def __init__(
        self, service: Any, servicer: object, *, interceptors: Sequence[grpc.aio.ServerInterceptor] = ()
    ) -> None:
        self._service = service
        bridge = _Bridge(service, servicer, interceptors, asyncio.get_running_loop())
        self._server = unbridged_server(service, bridge)

    async def invoke(
        self, method: str, *requests: Message, metadata: Metadata = (), timeout: float | None = 30
    ) -> Outcome:
        """Calls a method of any kind and waits for its end."""
        return await asyncio.to_thread(self._invoke, self._service.methods_by_name[method], requests, metadata, timeout)

    def _invoke(self, method: Any, requests: Sequence[Message], metadata: Metadata, timeout: float | None) -> Outcome:
        kind = method.client_streaming, method.server_streaming
        if kind == (False, False):
            call = self._server.invoke_unary_unary(method, metadata, requests[0], timeout)
        elif kind == (False, True):
            call = self._server.invoke_unary_stream(method, metadata, requests[0], timeout)
        elif kind == (True, False):
            call = self._server.invoke_stream_unary(method, metadata, timeout)
        else:
            call = self._server.invoke_stream_stream(method, metadata, timeout)
        if method.client_streaming:
            for request in requests:
                call.send_request(request)
            call.requests_closed()
        if method.server_streaming:
            return _outcome(list(_responses(call)), *call.termination())
        response, *end = call.termination()
        return _outcome([] if response is None else [response], *end)


def unbridged_server(service: Any, servicer: object) -> Any:
    """grpcio-testing as it is, for synchronous servicers and for the test that shows why they must be."""
    return grpc_testing.server_from_dictionary({service: servicer}, grpc_testing.strict_real_time())


def _responses(call: Any) -> Iterator[Any]:
    while True:
        try:
            yield call.take_response()
        except ValueError:  # grpcio-testing's way to say that there are no more
            return


def _outcome(responses: list[Any], trailing: Metadata, code: grpc.StatusCode, details: str) -> Outcome:
    return Outcome(responses, code, details, dict(trailing))


class _Bridge:
    """What grpcio-testing takes for a servicer: synchronous methods that run the asynchronous ones."""

    def __init__(
        self,
        service: Any,
        servicer: object,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._service = service
        self._servicer = servicer
        self._interceptors = tuple(interceptors)
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[[Any, Any], Any]:
        method = self._service.methods_by_name[name]
        return self._streaming(method) if method.server_streaming else self._unary(method)

    def _unary(self, method: Any) -> Callable[[Any, Any], Any]:
        def call(request: Any, context: Any) -> Any:
            bridged = _Context(context)
            responses = self._run(_answer(self, method, request, bridged), context).result()
            return responses[0] if responses else None

        return call

    def _streaming(self, method: Any) -> Callable[[Any, Any], Iterator[Any]]:
        def call(request: Any, context: Any) -> Iterator[Any]:
            bridged = _Context(context)
            answering = self._run(_answer(self, method, request, bridged), context)
            while (response := self._run(bridged.written.get()).result()) is not _END:
                yield response
            answering.result()

        return call

    def _run(self, coroutine: Any, context: Any = None) -> Any:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        if context is not None:
            context.add_callback(future.cancel)  # the client left, or its deadline has passed
        return future

    async def handler(self, method: Any, metadata: Metadata) -> Any:
        """The method's handler behind the interceptors, as grpc.aio would put it together."""
        path = f"/{self._service.full_name}/{method.name}"

        async def innermost(details: Any) -> Any:
            return MAKERS[method.client_streaming, method.server_streaming](
                getattr(self._servicer, method.name),
                request_deserializer=_class(method.input_type).FromString,
                response_serializer=_class(method.output_type).SerializeToString,
            )

        continuation: Any = innermost
        for interceptor in reversed(self._interceptors):
            continuation = _continued(interceptor, continuation)
        return await continuation(Details(path, metadata))


def _continued(interceptor: Any, continuation: Any) -> Any:
    async def intercepted(details: Any) -> Any:
        return await interceptor.intercept_service(continuation, details)

    return intercepted


async def _answer(bridge: _Bridge, method: Any, request: Any, context: "_Context") -> list[Any]:
    """One call from request to end; responses of streams go out through the context as they come."""
    try:
        handler = await bridge.handler(method, context.invocation_metadata())
        output = _class(method.output_type)
        context.encode = lambda message: output.FromString(
            handler.response_serializer(message) if handler.response_serializer else message
        )
        received = _requests(request, handler) if method.client_streaming else _decoded(request, handler)
        behaviours = (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
        (behaviour,) = (each for each in behaviours if each is not None)
        answer = behaviour(received, context)
        if not isinstance(answer, AsyncIterator):
            response = await answer
            return [] if response is None else [context.encode(response)]
        async for response in answer:
            await context.write(response)
        return []
    except grpc.aio.AbortError:
        return []  # code, details and trailing metadata are set
    finally:
        await context.written.put(_END)


def _decoded(request: Message, handler: Any) -> Any:
    return handler.request_deserializer(request.SerializeToString())


async def _requests(requests: Iterator[Message], handler: Any) -> AsyncIterator[Any]:
    end: Any = _END
    while (request := await asyncio.to_thread(next, requests, end)) is not end:
        yield _decoded(request, handler)


def _class(descriptor: Any) -> Any:
    return message_factory.GetMessageClass(descriptor)


class _Context:
    """grpc.aio's context over grpcio-testing's synchronous one."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._code = grpc.StatusCode.OK
        self._trailing: Metadata = ()
        self.encode: Callable[[Any], Any] = lambda message: message
        self.written: asyncio.Queue[Any] = asyncio.Queue(maxsize=16)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> None:
        self._code = code
        self._context.set_code(code)
        self._context.set_details(details)
        self.set_trailing_metadata(trailing_metadata or self._trailing)
        raise grpc.aio.AbortError("Locally aborted.")

    async def write(self, message: Any) -> None:
        await self.written.put(self.encode(message))

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        self._context.send_initial_metadata(metadata)

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        self._trailing = tuple(metadata)
        self._context.set_trailing_metadata(self._trailing)

    def trailing_metadata(self) -> Metadata:
        return self._trailing

    def invocation_metadata(self) -> Metadata:
        return tuple(self._context.invocation_metadata() or ())

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code
        self._context.set_code(code)

    def set_details(self, details: str) -> None:
        self._context.set_details(details)

    def code(self) -> grpc.StatusCode:
        return self._code

    def time_remaining(self) -> float | None:
        remaining: float | None = self._context.time_remaining()
        return remaining

    def peer(self) -> str:
        return "grpc-testing:"
