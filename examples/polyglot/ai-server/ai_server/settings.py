"""The configuration, from environment variables. All faults are collected, so that one start reports all of them."""

import dataclasses
import ipaddress
import urllib.parse

from ai_server import log
from ai_server.identity import Identity, IdentityError


class ConfigError(Exception):
    """All faults of the configuration, one per line."""


@dataclasses.dataclass(frozen=True)
class Dependency:
    """Another service: its name, and where to connect to."""

    name: str
    target: str


@dataclasses.dataclass(frozen=True)
class Settings:
    name: str
    listen: str
    # None only in the insecure mode of tests, on loopback.
    identity: Identity | None
    # Who may call, besides the administrator; None without TLS, where callers have no names.
    callers: set[str] | None
    database: Dependency | None
    # After how many seconds without use a model leaves memory.
    model_idle: int
    log_level: str


def read(environment: dict[str, str]) -> Settings:
    reader = _Reader(environment)
    settings = Settings(
        name=reader.required("PSPD_NAME", "the service's domain name"),
        listen=reader.listen(),
        identity=None if reader.insecure else reader.identity(),
        callers=None if reader.insecure else {name.strip() for name in environment.get("PSPD_CALLERS", "").split(",")},
        database=reader.dependency("AI_DATABASE", "database-server"),
        model_idle=reader.model_idle(),
        log_level=reader.log_level(),
    )
    if reader.faults:
        raise ConfigError("\n".join(reader.faults))
    return settings


class _Reader:
    def __init__(self, environment: dict[str, str]):
        self.environment = environment
        self.faults = []
        self.insecure = environment.get("PSPD_INSECURE_LOOPBACK") == "1"

    def fault(self, key: str, fault: str) -> None:
        self.faults.append(f"`{key}` {fault}")

    def required(self, key: str, meaning: str) -> str:
        value = self.environment.get(key, "")
        if not value:
            self.fault(key, f"is not set: set it to {meaning}")
        return value

    def listen(self) -> str:
        meaning = "an address such as 0.0.0.0:50051"
        address = self.required("PSPD_LISTEN", meaning)
        host, _, port = address.rpartition(":")
        ip = _ip(host.strip("[]"))
        if address and not (ip and port.isdecimal()):
            self.fault("PSPD_LISTEN", f"is `{address}`, which is not {meaning}")
        elif ip and self.insecure and not ip.is_loopback:
            self.fault("PSPD_LISTEN", "must be a loopback address while `PSPD_INSECURE_LOOPBACK` is 1")
        return address

    def identity(self) -> Identity | None:
        ca = self.required("PSPD_TLS_CA", "the path of the deployment's CA certificate")
        certificate = self.required("PSPD_TLS_CERT", "the path of the service's certificate chain")
        key = self.required("PSPD_TLS_KEY", "the path of the certificate's private key")
        try:
            return Identity(ca, certificate, key) if ca and certificate and key else None
        except IdentityError as error:
            self.faults += error.faults

    def dependency(self, key: str, default_name: str) -> Dependency | None:
        url = self.required(key, "a URL such as https://name.domain:50051")
        scheme, default_port = ("http", 80) if self.insecure else ("https", 443)
        try:
            parts = urllib.parse.urlsplit(url)
            host, port = parts.hostname or "", parts.port or default_port
        except ValueError:
            return self.fault(key, f"is `{url}`: it is not a URL")
        ip = _ip(host)
        named = not ip and host != "localhost"
        if not url:
            return None
        if parts.scheme != scheme:
            return self.fault(key, f"is `{url}`: its scheme must be `{scheme}`")
        if not host:
            return self.fault(key, f"is `{url}`: it has no host")
        if self.insecure and (named or ip and not ip.is_loopback):
            fault = "its host must be a loopback address while `PSPD_INSECURE_LOOPBACK` is 1"
            return self.fault(key, f"is `{url}`: {fault}")
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return Dependency(host.split(".")[0] if named else default_name, target)

    def model_idle(self) -> int:
        value = self.environment.get("AI_MODEL_IDLE") or "1800"
        if value.isdecimal() and int(value) > 0:
            return int(value)
        self.fault("AI_MODEL_IDLE", f"is `{value}`, which is not a number of seconds from 1")

    def log_level(self) -> str:
        level = self.environment.get("LOG_LEVEL") or "info"
        if level not in log.LEVELS:
            self.fault("LOG_LEVEL", f"is `{level}`, which is not one of {', '.join(log.LEVELS)}")
        return level


def _ip(host: str):
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
