"""The connection to another service: mutual TLS, and the current certificate for each new connection."""

import grpc

from ai_server.calls import MESSAGE_LIMIT
from ai_server.identity import Identity
from ai_server.settings import Dependency

OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    # A dependency that returns is found at once.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # The longest time to connect.
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    # A machine that lost its power closes no connection.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]


class Channel:
    def __init__(self, dependency: Dependency, identity: Identity | None):
        self.name = dependency.name
        self._target = dependency.target
        self._identity = identity
        self._pem = None
        self._channel = None

    def open(self) -> grpc.aio.Channel:
        """The channel, which connects with its first call. A channel keeps its certificate, so a new one replaces it."""
        pem = self._identity and self._identity.current()
        if self._channel is None or pem is not self._pem:
            self._pem = pem
            self._channel = self._create()
        return self._channel

    def _create(self) -> grpc.aio.Channel:
        if self._pem is None:
            return grpc.aio.insecure_channel(self._target, OPTIONS)
        credentials = grpc.ssl_channel_credentials(self._pem.ca, self._pem.key, self._pem.certificate)
        return grpc.aio.secure_channel(self._target, credentials, OPTIONS)
