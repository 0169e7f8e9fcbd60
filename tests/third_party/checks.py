"""What all checks use: expected errors with their details, and the loop that runs the checks."""

import concurrent.futures
import re
import traceback
from datetime import timedelta

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

TIMEOUT = 60
# The largest message that a service accepts.
LIMIT = 4 << 20
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
PERMISSION_DENIED = grpc.StatusCode.PERMISSION_DENIED
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
ABORTED = grpc.StatusCode.ABORTED
DEADLINE_EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED


class NoDetails(AssertionError):
    """An error with the expected code but no details: the connection may have failed, not the service."""


def refused(code, reason, service, call, field=None, resource=None, retry=False, **metadata) -> None:
    """Expects an error whose ErrorInfo has that reason, service and metadata; and BadRequest, ResourceInfo or RetryInfo
    if asked for."""
    error = failure(call)
    received = f"{error.code()} {error.details()}"
    assert error.code() == code, f"expected {code} {reason}, got {received}"
    status = rpc_status.from_call(error)
    if status is None:
        raise NoDetails(received)
    info = detail(status, error_details_pb2.ErrorInfo())
    assert info.reason == reason, f"expected {reason}, got {info.reason}: {received}"
    assert info.domain and info.metadata["service"] == service, f"expected {service}: {info}"
    assert re.fullmatch("[0-9a-f]{32}", info.metadata["trace_id"]), info
    for key, value in metadata.items():
        assert info.metadata[key] == str(value), f"expected {key} {value}: {info}"
    if field:
        violations = detail(status, error_details_pb2.BadRequest()).field_violations
        assert [violation.field for violation in violations] == [field], violations
    if resource:
        assert detail(status, error_details_pb2.ResourceInfo()).resource_name == resource, status
    if retry:
        assert detail(status, error_details_pb2.RetryInfo()).retry_delay.ToTimedelta() > timedelta(), status


def failure(call) -> grpc.RpcError:
    try:
        answer = call()
        # A stream raises its error when it is read.
        if isinstance(answer, grpc.Call) and hasattr(answer, "__next__"):
            list(answer)
    except grpc.RpcError as error:
        return error
    raise AssertionError("expected an error, but the call succeeded")


def detail(status, message):
    for packed in status.details:
        if packed.Unpack(message):
            return message
    raise AssertionError(f"no {message.DESCRIPTOR.name} in {status}")


def too_late(call) -> None:
    """Expects that the deadline ends a call that would not end otherwise."""
    error = failure(call)
    assert error.code() == DEADLINE_EXCEEDED, error.code()


def at_once(calls) -> None:
    """Makes all calls at the same time, and fails if one does."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        for outcome in [pool.submit(call) for call in calls]:
            outcome.result()


def run(checks: dict, side_by_side=4) -> int:
    """Runs all checks, up to `side_by_side` at once; prints a line for each, and returns the exit code."""
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(side_by_side) as pool:
        running = {pool.submit(check): name for name, check in checks.items()}
        for done in concurrent.futures.as_completed(running):
            try:
                done.result()
                print(f"ok      {running[done]}", flush=True)
            except Exception:
                failed += 1
                print(f"FAILED  {running[done]}\n{traceback.format_exc()}", flush=True)
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0
