"""Health by `grpc.health.v1`, for each service's name and for the whole (the empty name).

    NOT_SERVING --the database SERVING, scikit-learn imported--> SERVING --two failed probes, or draining--> NOT_SERVING

Health is advice for clients that choose a server: calls are answered meanwhile as far as possible.
"""

import asyncio

import grpc
import health_pb2 as messages
import health_pb2_grpc

from ai_server import log
from ai_server.channel import Channel
from ai_server.problem import missing

# In seconds: between two probes, the same while NOT_SERVING, and how long a dependency may take to answer.
INTERVAL, RETRY, ANSWER = 1, 0.2, 2
# One is not enough: a dependency that is being redeployed is unavailable for a moment.
FAILED_PROBES = 2
# How long health reports NOT_SERVING before its watchers' streams end.
NOTICE = 0.2

Status = messages.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    def __init__(self, names: list[str]):
        self.names = ["", *names]
        self.serving = False
        self.ended = False
        self._changed = asyncio.Event()

    async def Check(self, request, context):
        if request.service not in self.names:
            name = request.service
            raise missing("service", name, "SERVICE_UNKNOWN", f"there is no service `{name}`")
        return self._status()

    async def List(self, request, context):
        return messages.HealthListResponse(statuses={name: self._status() for name in self.names})

    async def Watch(self, request, context):
        while not self.ended:
            changed = self._changed
            known = request.service in self.names
            yield self._status() if known else Status(status=Status.SERVICE_UNKNOWN)
            await changed.wait()

    def _status(self) -> Status:
        return Status(status=Status.SERVING if self.serving else Status.NOT_SERVING)

    def _report(self, serving: bool) -> None:
        self.serving = serving
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self, dependency: Channel, service: str, ready: asyncio.Future) -> None:
        """Probes the service of another process; first waits until this process is ready. Never returns."""
        await ready
        failed = 0
        while True:
            met = await self._is_met(dependency, service)
            failed = 0 if met else failed + 1
            if met and not self.serving:
                log.info("SERVING")
                self._report(True)
            elif self.serving and failed >= FAILED_PROBES:
                log.error("NOT_SERVING", gone=dependency.name)
                self._report(False)
            await asyncio.sleep(INTERVAL if self.serving else RETRY)

    async def _is_met(self, dependency: Channel, service: str) -> bool:
        probe = health_pb2_grpc.HealthStub(dependency.open())
        try:
            answer = await probe.Check(messages.HealthCheckRequest(service=service), timeout=ANSWER)
        except grpc.aio.AioRpcError:
            return False
        return answer.status == Status.SERVING

    async def end(self) -> None:
        """Reports NOT_SERVING, and ends the streams of watchers, which would keep their connections open."""
        self._report(False)
        await asyncio.sleep(NOTICE)
        self.ended = True
        self._report(False)
