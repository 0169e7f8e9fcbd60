"""The service's TLS identity: the deployment's CA, and the service's own certificate and key.

The files are checked with each new connection, and read again if they changed: a certificate is renewed without a restart.
If they are damaged or do not belong together, the old ones stay in use.
"""

import dataclasses
import os
import pathlib
import ssl
import threading

import grpc

from ai_server import log


class IdentityError(Exception):
    """The faults of the files, by the variables that name them."""

    def __init__(self, faults: list[str]):
        super().__init__("; ".join(faults))
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
                    log.error("the new certificate is not usable; keeping the old one", faults=error.faults)
            return self._pem

    def server_credentials(self) -> grpc.ServerCredentials:
        """Requires a certificate of the same CA from every caller."""

        def configuration():
            pem = self.current()
            return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], root_certificates=pem.ca)

        return grpc.dynamic_ssl_server_credentials(configuration(), configuration, require_client_authentication=True)

    def _stamp_now(self) -> list:
        return [_stamp(path) for path in self._paths.values()]

    def _read(self) -> Pem:
        """Has the TLS library check the files: gRPC would not say what is wrong with them."""
        contents, faults = [], []
        for variable, path in self._paths.items():
            try:
                contents.append(pathlib.Path(path).read_bytes())
            except OSError as error:
                faults.append(f"`{variable}` names `{path}`, which is not readable: {error.strerror}")
        if not faults:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            try:
                context.load_verify_locations(self._paths["PSPD_TLS_CA"])
            except OSError as error:
                faults.append(f"`PSPD_TLS_CA` has no certificate of an authority: {error}")
            try:
                context.load_cert_chain(self._paths["PSPD_TLS_CERT"], self._paths["PSPD_TLS_KEY"])
            except OSError as error:
                faults.append(f"`PSPD_TLS_CERT` and `PSPD_TLS_KEY` are not a certificate and its key: {error}")
        if faults:
            raise IdentityError(faults)
        return Pem(*contents)


def _stamp(path: str):
    """Changes whenever the file is replaced or written."""
    try:
        found = os.stat(path)
        return found.st_ino, found.st_mtime_ns
    except OSError:
        return None
