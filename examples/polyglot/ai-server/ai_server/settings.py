"""The configuration, from environment variables. All faults are collected, so that one start reports all of them."""

import dataclasses
import ipaddress
import urllib.parse

from ai_server.identity import Identity, IdentityError

LOG_LEVELS = ("off", "error", "warn", "info", "debug", "trace")
MODEL_IDLE = 1800


class ConfigError(Exception):
    def __init__(self, faults: list[str]):
        super().__init__("\n".join(faults))


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
    callers: frozenset[str] | None
    database: Dependency
    # After how many seconds without use a model leaves memory.
    model_idle: int
    log_level: str


def read(environment: dict[str, str]) -> Settings:
    return _Reader(environment).settings()


class _Reader:
    def __init__(self, environment):
        self.environment = environment
        self.faults = []
        self.insecure = environment.get("PSPD_INSECURE_LOOPBACK") == "1"

    def settings(self) -> Settings:
        settings = Settings(
            log_level=self.log_level(),
            name=self.required("PSPD_NAME", "the service's domain name"),
            listen=self.listen(),
            identity=None if self.insecure else self.identity(),
            callers=None if self.insecure else self.callers(),
            database=self.dependency("AI_DATABASE", "database-server"),
            model_idle=self.model_idle(),
        )
        if self.faults:
            raise ConfigError(self.faults)
        return settings

    def fault(self, key: str, fault: str) -> None:
        self.faults.append(f"`{key}` {fault}")

    def required(self, key: str, meaning: str) -> str:
        value = self.environment.get(key, "")
        if not value:
            self.fault(key, f"is not set: set it to {meaning}")
        return value

    def log_level(self) -> str:
        level = self.environment.get("LOG_LEVEL") or "info"
        if level not in LOG_LEVELS:
            self.fault("LOG_LEVEL", f"is `{level}`, which is not one of {', '.join(LOG_LEVELS)}")
        return level

    def listen(self) -> str:
        meaning = "an address such as 0.0.0.0:50051"
        address = self.required("PSPD_LISTEN", meaning)
        if not address:
            return address
        host, _, port = address.rpartition(":")
        try:
            ip = ipaddress.ip_address(host.strip("[]"))
            valid = port.isdecimal() and int(port) < 1 << 16
        except ValueError:
            valid = False
        if not valid:
            self.fault("PSPD_LISTEN", f"is `{address}`, which is not {meaning}")
        elif self.insecure and not ip.is_loopback:
            self.fault("PSPD_LISTEN", "must be a loopback address while `PSPD_INSECURE_LOOPBACK` is 1")
        return address

    def identity(self) -> Identity | None:
        ca = self.required("PSPD_TLS_CA", "the path of the deployment's CA certificate")
        certificate = self.required("PSPD_TLS_CERT", "the path of the service's certificate chain")
        key = self.required("PSPD_TLS_KEY", "the path of the certificate's private key")
        if not (ca and certificate and key):
            return None
        try:
            return Identity(ca, certificate, key)
        except IdentityError as error:
            for variable, fault in error.faults:
                self.fault(variable, fault)
            return None

    def callers(self) -> frozenset[str]:
        names = self.environment.get("PSPD_CALLERS", "").split(",")
        return frozenset(name.strip() for name in names if name.strip())

    def dependency(self, key: str, default_name: str) -> Dependency | None:
        url = self.required(key, "a URL such as https://name.domain:50051")
        if not url:
            return None
        scheme = "http" if self.insecure else "https"
        try:
            parts = urllib.parse.urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            return self.fault(key, f"is `{url}`: it is not a URL")
        if parts.scheme != scheme:
            return self.fault(key, f"is `{url}`: its scheme must be `{scheme}`")
        if not host:
            return self.fault(key, f"is `{url}`: it has no host")
        ip = _ip(host)
        if self.insecure and not (host == "localhost" or ip and ip.is_loopback):
            text = "its host must be a loopback address while `PSPD_INSECURE_LOOPBACK` is 1"
            return self.fault(key, f"is `{url}`: {text}")
        # An address, and `localhost`, are not names of services.
        name = default_name if ip or host == "localhost" else host.split(".")[0]
        bracketed = f"[{host}]" if ":" in host else host
        return Dependency(name, f"{bracketed}:{port or (80 if self.insecure else 443)}")

    def model_idle(self) -> int:
        value = self.environment.get("AI_MODEL_IDLE") or str(MODEL_IDLE)
        if not (value.isdecimal() and int(value) > 0):
            self.fault("AI_MODEL_IDLE", f"is `{value}`, which is not a number of seconds from 1")
            return MODEL_IDLE
        return int(value)


def _ip(host: str):
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
