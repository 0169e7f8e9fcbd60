"""The server: its services, its options, and its end.

    SERVING -- SIGTERM --> NOT_SERVING for a moment --> port closed --> calls end, or are cancelled after 10 s
"""

import asyncio

import ai_service_pb2
import ai_service_pb2_grpc
import grpc
import health_pb2
import health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from ai_server import log
from ai_server.calls import READ_LIMIT, Calls
from ai_server.channel import Channel
from ai_server.documents import Documents
from ai_server.health import Health
from ai_server.learning import Learning
from ai_server.model_store import ModelStore
from ai_server.registry import Registry
from ai_server.service import Ai
from ai_server.settings import Settings

DATABASE = "database.DatabaseService"
# How long calls may continue after the port is closed, in seconds.
DRAIN = 10
OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", READ_LIMIT),
    ("grpc.max_metadata_size", 256 << 10),
    # The most concurrent calls of one connection; further calls wait at the caller.
    ("grpc.max_concurrent_streams", 256),
    # Afterwards the caller is asked to reconnect, so that both sides use their renewed certificates.
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.keepalive_time_ms", 30_000),
    # Callers may check idle connections as often as they like; by default, the library ends such connections.
    ("grpc.http2.max_ping_strikes", 0),
]


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Serves until `stopping` is set, then drains."""
    learning = Learning()
    database = Channel(settings.database, settings.identity)
    registry = Registry(ModelStore(Documents(database), learning), learning, settings.model_idle)
    names = [ai_service_pb2.DESCRIPTOR.services_by_name["AiService"].full_name]
    health = Health(names)

    server = grpc.aio.server(interceptors=[Calls(settings.name, settings.callers)], options=OPTIONS)
    ai_service_pb2_grpc.add_AiServiceServicer_to_server(Ai(registry, stopping), server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    add_reflection(server, [*names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name])
    address = bind(server, settings)
    await server.start()
    log.info("serving", service=settings.name, address=address)

    background = [
        asyncio.create_task(health.follow(database, DATABASE, learning.ready)),
        asyncio.create_task(registry.follow()),
    ]
    stop = asyncio.create_task(stopping.wait())
    done, others = await asyncio.wait([stop, *background], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        # Raises the error of a background task, which never ends otherwise.
        task.result()
    for task in others:
        task.cancel()
    await health.end()
    await server.stop(DRAIN)
    log.info("stopped", service=settings.name)


def bind(server: grpc.aio.Server, settings: Settings) -> str:
    """Opens the port; returns its address."""
    if settings.identity is None:
        port = server.add_insecure_port(settings.listen)
    else:
        port = server.add_secure_port(settings.listen, settings.identity.server_credentials())
    if not port:
        raise OSError(f"failed to listen on `{settings.listen}`")
    host = settings.listen.rpartition(":")[0]
    return f"{host}:{port}"


def add_reflection(server: grpc.aio.Server, names: list[str]) -> None:
    """Describes the services by both versions of the protocol, whose messages are the same."""
    servicer = reflection.aio.ReflectionServicer([*names, reflection.SERVICE_NAME])
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (reflection.SERVICE_NAME, "grpc.reflection.v1.ServerReflection"):
        methods = {"ServerReflectionInfo": handler}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))
