"""What surrounds every call: its trace, its caller's permission, its limits, its errors, and its line in the log."""

import asyncio
import contextlib
import time

import grpc
from google.protobuf.message import DecodeError

from ai_server import log, trace
from ai_server.problem import Problem, internal

# The largest message, in bytes. The library reads larger ones too, so that the error has details.
MESSAGE_LIMIT = 4 << 20
READ_LIMIT = 4 * MESSAGE_LIMIT
# The most metadata of a call, in bytes, as HTTP/2 counts them: RFC 9113, 6.5.2.
METADATA_LIMIT = 16 << 10
FIELD = 32
# In seconds: of a call with one request, and of a call with a stream of them.
UNARY_LIMIT, STREAM_LIMIT = 60, 600

ADMINISTRATOR = "pspd"
HEALTH = "/grpc.health.v1.Health/"
# By whether requests, and responses, are a stream.
KINDS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


class Calls(grpc.aio.ServerInterceptor):
    def __init__(self, service: str, callers: set[str] | None):
        self.service = service
        self.callers = callers

    async def intercept_service(self, continuation, details):
        method = details.method
        handler = await continuation(details) or unknown(method)
        behavior = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        decode = handler.request_deserializer

        def request(received):
            """A request, or all requests of a stream."""
            return decoded_all(received, decode) if handler.request_streaming else decoded(received, decode)

        if handler.response_streaming:

            async def answer(received, context):
                async with self.call(method, context, None):
                    async for response in behavior(request(received), context):
                        await context.write(response)

        else:
            limit = STREAM_LIMIT if handler.request_streaming else UNARY_LIMIT

            async def answer(received, context):
                async with self.call(method, context, limit):
                    return await behavior(request(received), context)

        kind = KINDS[handler.request_streaming, handler.response_streaming]
        return kind(answer, response_serializer=handler.response_serializer)

    @contextlib.asynccontextmanager
    async def call(self, method: str, context: grpc.aio.ServicerContext, limit: float | None):
        began = time.monotonic()
        metadata = context.invocation_metadata()
        trace.begin(metadata, caller=caller(context))
        status = grpc.StatusCode.OK
        try:
            check_size(metadata)
            self.admit(method)
            async with asyncio.timeout(limit):
                yield
        except asyncio.CancelledError:
            # By the caller, or at its deadline.
            status = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:
            problem = described(error, limit)
            status = problem.code
            await problem.abort(context)
        finally:
            self.note(method, status, time.monotonic() - began)

    def admit(self, method: str) -> None:
        name = trace.current().caller
        if self.callers is None or name == ADMINISTRATOR or name in self.callers or method.startswith(HEALTH):
            return
        name = name or "unnamed"
        message = f"`{name}` may not call `{self.service}`"
        raise Problem(grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED", message, caller=name)

    def note(self, method: str, status: grpc.StatusCode, seconds: float) -> None:
        context = trace.current()
        quiet = method.startswith("/grpc.") and status == grpc.StatusCode.OK
        (log.debug if quiet else log.info)(
            "rpc",
            service=self.service,
            method=method.lstrip("/"),
            status=status.name.title().replace("_", ""),
            milliseconds=round(seconds * 1000, 3),
            caller=context.caller,
            trace_id=context.trace_id,
            span_id=context.span_id,
            parent_id=context.parent_id,
        )


def caller(context: grpc.aio.ServicerContext) -> str | None:
    """The first DNS name of a single label on the caller's certificate."""
    for name in context.auth_context().get("peer_dns", ()):
        if b"." not in name and name != b"localhost":
            return name.decode()
    return None


def check_size(metadata) -> None:
    if sum(len(key) + len(value) + FIELD for key, value in metadata) > METADATA_LIMIT:
        message = f"the call has more than {METADATA_LIMIT} bytes of metadata"
        raise Problem(grpc.StatusCode.RESOURCE_EXHAUSTED, "METADATA_TOO_LARGE", message, limit=METADATA_LIMIT)


def described(error: Exception, limit: float | None) -> Problem:
    match error:
        case Problem():
            return error
        case TimeoutError():
            message = f"the call took longer than {limit} s"
            return Problem(grpc.StatusCode.DEADLINE_EXCEEDED, "TOO_SLOW", message)
        case _:
            return internal(error)


def decoded(message: bytes, decode):
    if len(message) > MESSAGE_LIMIT:
        text = f"the message is larger than {MESSAGE_LIMIT} bytes"
        raise Problem(grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_TOO_LARGE", text, limit=MESSAGE_LIMIT)
    try:
        return decode(message)
    except DecodeError:
        text = "the message is not what its method expects"
        raise Problem(grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_MALFORMED", text) from None


async def decoded_all(messages, decode):
    async for message in messages:
        yield decoded(message, decode)


def unknown(method: str):
    """Answers calls of a method that does not exist."""

    async def refuse(_requests, _context):
        message = f"there is no method `{method}`"
        raise Problem(grpc.StatusCode.UNIMPLEMENTED, "METHOD_UNKNOWN", message)
        yield

    return grpc.stream_stream_rpc_method_handler(refuse)
