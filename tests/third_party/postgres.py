"""A database service over PostgreSQL: what the engine refuses, calls that take too long, and a stopped server."""

import contextlib
import functools
import os
import pathlib
import shutil
import signal
import socket
import subprocess

from checks import DEADLINE_EXCEEDED, INVALID, TIMEOUT, UNAVAILABLE, at_once, refused
from services import Process

SERVICE = "database-server"
# PostgreSQL's immediate shutdown, which ends its processes too.
AT_ONCE = signal.SIGQUIT
BLOCKED = "SELECT count(*) FROM pg_locks WHERE granted AND mode = 'AccessExclusiveLock'"


def checks() -> dict:
    return {
        "PostgreSQL: refused data, and calls that take too long": refusals_and_timeouts,
        "PostgreSQL: a stopped server": a_stopped_server,
    }


class Cluster(Process):
    """A PostgreSQL server for one check, from the distribution's package."""

    def __init__(self, services):
        found = [path for path in pathlib.Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
        assert found, "PostgreSQL is not installed; run `scripts/setup --test`"
        self.programs = max(found, key=lambda path: int(path.parent.name))
        self.folder = services.folder / "postgres"
        self.folder.mkdir()
        unprivileged = []
        # PostgreSQL refuses to run as root: then as the user of its package.
        if os.geteuid() == 0:
            unprivileged = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            services.folder.chmod(0o755)
            shutil.chown(self.folder, "postgres")
        data = ["-D", self.folder / "data"]
        initdb = [*unprivileged, self.programs / "initdb", *data, "--auth=trust", "--encoding=UTF8", "--locale=C"]
        initdb += ["--username=test", "--no-sync"]
        subprocess.run(initdb, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=TIMEOUT)
        # As late as possible: until the server listens on the port, another process may take it.
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])
        listen = ["-k", self.folder, "-c", "listen_addresses=127.0.0.1", "-p", self.port]
        command = [*unprivileged, self.programs / "postgres", *data, *listen]
        super().__init__(services, "postgres", command, {}, AT_ONCE)
        self.wait_for(lambda: self.ask("SELECT 1") == "1")
        self.url = f"postgres://test@127.0.0.1:{self.port}/postgres"

    def psql(self, *arguments):
        server = ["-h", self.folder, "-p", self.port, "-U", "test", "-d", "postgres"]
        return [self.programs / "psql", *server, "-Atq", *arguments]

    def ask(self, sql) -> str:
        said = subprocess.run(self.psql("-c", sql), stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT)
        return said.stdout.decode().strip()

    @contextlib.contextmanager
    def locked(self):
        """Blocks all reads and writes of documents."""
        with subprocess.Popen(self.psql(), stdin=subprocess.PIPE) as holder:
            try:
                holder.stdin.write(b"BEGIN; LOCK TABLE documents;\n")
                holder.stdin.flush()
                self.wait_for(lambda: self.ask(BLOCKED) != "0")
                yield
            finally:
                holder.kill()


def refusals_and_timeouts(services):
    cluster = Cluster(services)
    client = services.database_client(services.database(cluster.url))
    stored = [client.create("c", {"n": n, "fill": "x" * 1_000_000}).id for n in range(16)]
    for call in (
        lambda: client.create("c", {"a": "\0"}),
        lambda: client.update("c", stored[0], {"a": "\0"}),
    ):
        refused(INVALID, "DOCUMENT_MALFORMED", SERVICE, call, field="data")
    # The pattern's syntax is the service's own, not PostgreSQL's.
    assert not list(client.query("c", {"a": {"$regex": "(?P<x>r)"}}))

    # More than the buffers hold while the client does not read, so that the service has to fetch the rest.
    results = client.query("c", "", timeout=3 * TIMEOUT)
    assert next(results).id == stored[0]
    too_slow = functools.partial(refused, DEADLINE_EXCEEDED, "STORE_TOO_SLOW", SERVICE)
    with cluster.locked():
        calls = [lambda: results, lambda: client.read("c", stored[0]), lambda: client.query("c", {"$sort": {"n": 1}})]
        at_once([functools.partial(too_slow, call) for call in calls])
    assert [found.id for found in client.query("c", "")] == stored


def a_stopped_server(services):
    cluster = Cluster(services)
    client = services.database_client(services.database(cluster.url))
    id = client.create("c", {}).id
    cluster.end(AT_ONCE)
    unreachable = functools.partial(refused, UNAVAILABLE, "STORE_UNREACHABLE", SERVICE, retry=True)
    # All waiting callers get the error together, not one after the other.
    at_once([functools.partial(unreachable, call) for call in 4 * client.every_call("c", id)])
