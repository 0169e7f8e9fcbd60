"""Errors as google.rpc.Status: always with ErrorInfo; with BadRequest, ResourceInfo or RetryInfo where they fit."""

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from ai_server import log, trace

DOMAIN = "pspd.internal"
DETAILS = "grpc-status-details-bin"
# A status is metadata, of which clients accept 8 KiB at least, and texts may quote what a caller sent.
LONGEST = 512
_CODES = {code.value[0]: code for code in grpc.StatusCode}

# The service's name in ErrorInfo; set once, at start.
service = "ai-server"


class Problem(Exception):
    """An error that the caller gets. `metadata` is added to ErrorInfo, `details` are further messages of google.rpc."""

    def __init__(self, code: grpc.StatusCode, reason: str, message: str, *details, retry_after=None, **metadata):
        message = shortened(message)
        super().__init__(message)
        metadata = {key: shortened(str(value)) for key, value in metadata.items()}
        metadata |= {"service": service, "trace_id": trace.current().trace_id}
        details = [error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata), *details]
        if retry_after is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromMilliseconds(int(retry_after * 1000))
            details.append(retry)
        self.code = code
        self.status = status_pb2.Status(code=code.value[0], message=message, details=map(_packed, details))

    async def abort(self, context: grpc.aio.ServicerContext) -> None:
        await context.abort(self.code, self.status.message, ((DETAILS, self.status.SerializeToString()),))


class Passed(Problem):
    """The error of another service, passed on unchanged."""

    def __init__(self, status: status_pb2.Status):
        Exception.__init__(self, status.message)
        self.code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
        self.status = status


def invalid(field: str, reason: str, message: str) -> Problem:
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=shortened(message))
    request = error_details_pb2.BadRequest(field_violations=[violation])
    return Problem(grpc.StatusCode.INVALID_ARGUMENT, reason, message, request)


def missing(kind: str, name: str, reason: str, message: str) -> Problem:
    resource = error_details_pb2.ResourceInfo(resource_type=kind, resource_name=name, description=message)
    return Problem(grpc.StatusCode.NOT_FOUND, reason, message, resource)


def internal(cause: BaseException) -> Problem:
    """A fault of this service: the cause is logged and not sent."""
    log.error("the call failed", trace_id=trace.current().trace_id, cause=repr(cause))
    return Problem(grpc.StatusCode.INTERNAL, "INTERNAL", "the service failed")


def from_dependency(error: grpc.aio.AioRpcError, name: str) -> Problem:
    """The error of a call to another service: unchanged if that service described it."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS:
            return Passed(status_pb2.Status.FromString(value))
    match error.code():
        case grpc.StatusCode.DEADLINE_EXCEEDED | grpc.StatusCode.CANCELLED:
            code, reason, what = grpc.StatusCode.DEADLINE_EXCEEDED, "DEPENDENCY_TOO_SLOW", "did not answer in time"
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.UNKNOWN | grpc.StatusCode.INTERNAL:
            code, reason, what = grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_UNREACHABLE", "is unreachable"
        case other:
            code, reason, what = other, "DEPENDENCY_FAILED", "failed"
    message = f"`{name}` {what}: {error.details()}"
    return Problem(code, reason, message, retry_after=1, dependency=name)


def shortened(text: str) -> str:
    """The text without its middle, if it is too long."""
    data = text.encode()
    if len(data) <= LONGEST:
        return text
    end = LONGEST // 4
    return data[: LONGEST - end].decode(errors="ignore") + "…" + data[-end:].decode(errors="ignore")


def _packed(message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
