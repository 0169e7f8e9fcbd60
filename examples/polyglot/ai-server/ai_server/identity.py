"""The service's TLS identity: the deployment's CA, and the service's own certificate and key.

The files are checked with each new connection, and read again if they changed: a certificate is renewed without a restart.
If they are damaged or do not belong together, the old ones stay in use.
"""

import dataclasses
import os
import ssl
import threading

import grpc

from ai_server import log


class IdentityError(Exception):
    """Pairs of the variable that names a file, and what is wrong with the file."""

    def __init__(self, faults: list[tuple[str, str]]):
        super().__init__("; ".join(f"{variable} {fault}" for variable, fault in faults))
        self.faults = faults


@dataclasses.dataclass(frozen=True)
class Pem:
    ca: bytes
    certificate: bytes
    key: bytes


class Identity:
    def __init__(self, ca: str, certificate: str, key: str):
        self._paths = {"PSPD_TLS_CA": ca, "PSPD_TLS_CERT": certificate, "PSPD_TLS_KEY": key}
        self._lock = threading.Lock()
        self._stamp = self._stamp_now()
        self._pem = self._read()

    def current(self) -> Pem:
        """The content of the files; the same object until it changes."""
        with self._lock:
            stamp = self._stamp_now()
            if stamp != self._stamp:
                # Before reading: the next connection sees a change that happens meanwhile.
                self._stamp = stamp
                try:
                    self._pem = self._read()
                    log.info("reloaded the certificate", certificate=self._paths["PSPD_TLS_CERT"])
                except IdentityError as error:
                    log.error("the new certificate is not usable; keeping the old one", faults=str(error))
            return self._pem

    def server_credentials(self) -> grpc.ServerCredentials:
        def configuration():
            pem = self.current()
            return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], root_certificates=pem.ca)

        return grpc.dynamic_ssl_server_credentials(
            configuration(), configuration, require_client_authentication=True
        )

    def _stamp_now(self) -> list:
        stamps = []
        for path in self._paths.values():
            try:
                found = os.stat(path)
                stamps.append((found.st_ino, found.st_mtime_ns))
            except OSError:
                stamps.append(None)
        return stamps

    def _read(self) -> Pem:
        contents, faults = [], []
        for variable, path in self._paths.items():
            try:
                with open(path, "rb") as file:
                    contents.append(file.read())
            except OSError as error:
                faults.append((variable, f"names `{path}`, which is not readable: {error.strerror}"))
        if faults:
            raise IdentityError(faults)
        self._check()
        return Pem(*contents)

    def _check(self) -> None:
        """Has the TLS library read the files: gRPC reports faults of them only in its own log."""
        faults = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_verify_locations(self._paths["PSPD_TLS_CA"])
        except OSError as error:
            faults.append(("PSPD_TLS_CA", f"has no certificate of an authority: {error}"))
        try:
            context.load_cert_chain(self._paths["PSPD_TLS_CERT"], self._paths["PSPD_TLS_KEY"])
        except OSError as error:
            faults.append(("PSPD_TLS_CERT", f"and `PSPD_TLS_KEY` are not a certificate and its key: {error}"))
        if faults:
            raise IdentityError(faults)
