"""Which callers are allowed, and which service owns which collection, by the names on the callers' certificates."""

import pathlib

import trustme

import ai
import business_service_pb2
import business_service_pb2_grpc
import database
from checks import PERMISSION_DENIED, TIMEOUT, refused
from client import channel

NAMES = ("database-server", "ai-server", "web-server", "pspd", "unknown")
# `list_services` of a ServerReflectionRequest.
LIST_SERVICES = b"\x3a\x00"
OWNED = {
    "ai-models": "ai-server",
    "ai-model-parts": "ai-server",
    "ai-model-claims": "ai-server",
    "web-collections": "web-server",
}


def checks() -> dict:
    return {"allowed callers": allowed_callers, "owned collections": owned_collections}


def certificates(folder: pathlib.Path) -> dict:
    """A folder for each name, like the one that `pspd credentials` writes, under a new authority."""
    authority = trustme.CA()
    folders = {name: folder / name for name in NAMES}
    for name, own in folders.items():
        own.mkdir()
        certificate = authority.issue_cert(name, "localhost")
        authority.cert_pem.write_to_path(own / "ca.pem")
        certificate.cert_chain_pems[0].write_to_path(own / "client.pem")
        certificate.private_key_pem.write_to_path(own / "client.key")
    return folders


class Closed:
    """The three services with mutual TLS, each with its allowed callers."""

    def __init__(self, services):
        self.services = services
        self.folders = certificates(services.folder)
        owners = ",".join("=".join(pair) for pair in OWNED.items())
        variables = self.variables("database-server", "ai-server,web-server")
        database = services.database(**variables, DATABASE_OWNERS=owners)
        database_url = f"https://localhost:{database.port}"
        ai = services.ai(database_url, **self.variables("ai-server", "web-server"))
        web = services.web(database_url, f"https://localhost:{ai.port}", **self.variables("web-server", ""))
        self.running = {"database-server": database, "ai-server": ai, "web-server": web}

    def variables(self, name, callers) -> dict:
        own = self.folders[name]
        return {
            "PSPD_INSECURE_LOOPBACK": "",
            "PSPD_CALLERS": callers,
            "PSPD_TLS_CA": str(own / "ca.pem"),
            "PSPD_TLS_CERT": str(own / "client.pem"),
            "PSPD_TLS_KEY": str(own / "client.key"),
        }

    def channel(self, caller, name):
        return self.services.enter_context(channel(str(self.folders[caller]), name, self.running[name].address))

    def database(self, caller):
        return database.Client(self.channel(caller, "database-server"))

    def ai(self, caller):
        return ai.Client(self.channel(caller, "ai-server"))

    def collections(self, caller):
        stub = business_service_pb2_grpc.BusinessServiceStub(self.channel(caller, "web-server"))
        return stub.ListCollections(business_service_pb2.ListCollectionsRequest(), timeout=TIMEOUT)

    def health(self, caller, name):
        return self.channel(caller, name).unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=TIMEOUT)

    def reflection(self, caller, name):
        method = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        return self.channel(caller, name).stream_stream(method)(iter([LIST_SERVICES]), timeout=TIMEOUT)


def allowed_callers(services):
    closed = Closed(services)

    def not_allowed(caller, service, call):
        refused(PERMISSION_DENIED, "CALLER_NOT_ALLOWED", service, call, caller=caller)

    for caller in ("unknown", "database-server"):
        for call in closed.database(caller).every_call("c", "x"):
            not_allowed(caller, "database-server", call)
    for caller in ("unknown", "database-server", "ai-server"):
        client = closed.ai(caller)
        for call in (
            lambda: client.predict("default", "text"),
            lambda: client.monitor("default"),
            lambda: client.train("default", ai.NEWS),
        ):
            not_allowed(caller, "ai-server", call)
        not_allowed(caller, "web-server", lambda: closed.collections(caller))
    for name in closed.running:
        not_allowed("unknown", name, lambda: closed.reflection("unknown", name))
        assert closed.health("unknown", name), name
        assert list(closed.reflection("pspd", name)), name
    # Each of these calls the next.
    assert closed.ai("web-server").train(ai.a_model(), ai.NEWS).iterations
    closed.collections("pspd")


def owned_collections(services):
    closed = Closed(services)
    for collection, owner in OWNED.items():
        for caller in ("ai-server", "web-server", "pspd"):
            client = closed.database(caller)
            if caller in (owner, "pspd"):
                client.delete(collection, client.create(collection, {}).id)
                continue
            for call in client.every_call(collection, "x"):
                owned = {"caller": caller, "collection": collection}
                refused(PERMISSION_DENIED, "RESOURCE_OWNED", "database-server", call, **owned)
