"""A database service over SQLite whose store is full, locked, damaged, or about to close."""

import contextlib
import functools
import json
import os
import pathlib
import signal
import sqlite3
import subprocess

import grpc

from checks import TIMEOUT, UNAVAILABLE, NoDetails, at_once, refused

SERVICE = "database-server"
FULL = grpc.StatusCode.RESOURCE_EXHAUSTED
DAMAGED = grpc.StatusCode.DATA_LOSS
# SQLite's default page size.
PAGE = 4096
# Services that are started for one successful check of draining.
ATTEMPTS = 20
# In the service's own mount namespace, which needs no root.
SMALL_DISK = """
    mount -t tmpfs -o size=3m,mode=700 pspd-test "$DISK" || exit
    head -c 1500000 /dev/zero > "$DISK/filler" || exit
    exec "$0"
"""


def checks() -> dict:
    return {
        "a full store": full,
        "a store that another process locks": busy,
        "a damaged store": damaged,
        "a database that drains": draining,
    }


def full(services):
    disk = services.folder / "disk"
    disk.mkdir()
    small_disk = ("unshare", "--map-root-user", "--mount", "sh", "-c", SMALL_DISK)
    service = services.database(disk / "store.sqlite", *small_disk, DISK=str(disk))
    client = services.database_client(service)
    document = {"text": "x" * 20_000}
    stored = []

    def fill():
        while len(stored) < 1000:
            stored.append(client.create("c", document).id)

    refused(FULL, "STORE_FULL", SERVICE, fill)
    assert stored, "the store was full before the first document"
    assert json.loads(client.read("c", stored[0]).data) == document
    assert [found.id for found in client.query("c", "")] == stored
    # The path as the service sees it.
    pathlib.Path(f"/proc/{service.child.pid}/root{disk}/filler").unlink()
    stored.append(client.create("c", document).id)
    assert [found.id for found in client.query("c", "")] == stored


def busy(services):
    client = services.database_client(services.database())
    kept = client.create("c", {"n": 1}).id
    other = sqlite3.connect(services.store, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        store_busy = functools.partial(refused, UNAVAILABLE, "STORE_BUSY", SERVICE, retry=True)
        # All waiting callers get the error together, not one after the other.
        at_once(14 * [lambda: store_busy(lambda: client.create("c", {}))])
        assert json.loads(client.read("c", kept).data) == {"n": 1}
        other.execute("ROLLBACK")
    finally:
        other.close()
    client.create("c", {})
    assert len(list(client.query("c", ""))) == 2


def damaged(services):
    service = services.database()
    client = services.database_client(service)
    stored = [client.create("c", {"n": n, "fill": "x" * 2_000}).id for n in range(50)]
    # Empties the log; then every page of the file except the first is overwritten.
    checkpoint = [services.binaries / SERVICE, "checkpoint"]
    environment = {"DATABASE_STORE": str(services.store)}
    subprocess.run(checkpoint, env=environment, stdout=subprocess.DEVNULL, check=True, timeout=TIMEOUT)
    with services.store.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(PAGE)
        file.write(b"\x5a" * (size - PAGE))
    refused(DAMAGED, "STORE_DAMAGED", SERVICE, lambda: client.read("c", stored[-1]))
    refused(DAMAGED, "STORE_DAMAGED", SERVICE, lambda: client.query("c", ""))


def draining(services):
    # The service reports it briefly: on a busy machine the connection may close before all calls were made.
    for attempt in range(1, ATTEMPTS):
        with contextlib.suppress(NoDetails):
            return drained(services, attempt)
    return drained(services, ATTEMPTS)


def drained(services, attempt):
    service = services.database(services.folder / f"draining-{attempt}.sqlite")
    client = services.database_client(service)
    stored = [client.create("c", {"n": n, "fill": "x" * 1_000_000}).id for n in range(8)]
    # More than the buffers hold while the client does not read: this query completes.
    under_way = client.query("c", "")
    assert next(under_way).id == stored[0]
    service.send(signal.SIGTERM)

    def until_refused():
        while True:
            client.read("c", stored[0])

    refused(UNAVAILABLE, "DRAINING", SERVICE, until_refused, retry=True)
    for call in client.every_call("c", stored[0]):
        refused(UNAVAILABLE, "DRAINING", SERVICE, call, retry=True)
    assert [found.id for found in under_way] == stored[1:]
    assert service.child.wait(TIMEOUT) == 0
