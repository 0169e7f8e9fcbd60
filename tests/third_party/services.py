"""A check's own services, on free loopback ports: they are ended with the check, whatever came of it."""

import contextlib
import itertools
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time

import grpc

import ai
import business
import database
from checks import TIMEOUT


class Process:
    """A program that runs until its check is over, and what it says."""

    def __init__(self, services, name, command, environment, last=signal.SIGKILL):
        self.log = services.folder / f"{name}-{next(services.numbers)}.log"
        with self.log.open("wb") as out:
            self.child = subprocess.Popen(
                command,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        services.callback(self.end, last)

    def wait_for(self, ready):
        """What `ready` gives once it gives something."""
        until = time.monotonic() + TIMEOUT
        while not (found := ready()):
            assert self.child.poll() is None, f"it ended:\n{self.log.read_text()}"
            assert time.monotonic() < until, f"it is not ready:\n{self.log.read_text()}"
            time.sleep(0.02)
        return found

    def send(self, number):
        self.child.send_signal(number)

    def end(self, number):
        self.send(number)
        try:
            self.child.wait(TIMEOUT)
        finally:
            self.child.kill()


class Service(Process):
    """One of the project's services, which has begun to serve."""

    def __init__(self, services, name, environment, *wrapper):
        told = {"PSPD_NAME": name, "PSPD_LISTEN": "127.0.0.1:0", "PSPD_INSECURE_LOOPBACK": "1"}
        super().__init__(services, name, [*wrapper, services.binaries / name], told | environment)
        self.address = self.wait_for(self._address)
        self.port = self.address.rpartition(":")[2]
        self.url = f"http://{self.address}"

    def _address(self):
        for line in self.log.read_text().splitlines(keepends=True):
            # The last one may be half written.
            if '"message":"serving"' in line and line.endswith("\n"):
                return json.loads(line)["address"]
        return None


class Services(contextlib.ExitStack):
    """What one check starts; its folder goes with it."""

    def __init__(self, binaries: str):
        super().__init__()
        self.binaries = pathlib.Path(binaries)
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory(prefix="pspd-test-")))
        self.store = self.folder / "store.sqlite"
        self.numbers = itertools.count()

    def __exit__(self, kind, error, traceback):
        if error:
            for log in self.folder.glob("*.log"):
                error.add_note(f"{log.stem} said last:\n" + "\n".join(log.read_text().splitlines()[-10:]))
        return super().__exit__(kind, error, traceback)

    def database(self, store=None, *wrapper, **environment) -> Service:
        told = {"DATABASE_STORE": str(store or self.store)}
        return Service(self, "database-server", told | environment, *wrapper)

    def ai(self, database_url, **environment) -> Service:
        return Service(self, "ai-server", {"AI_DATABASE": database_url} | environment)

    def web(self, database_url, ai_url, **environment) -> Service:
        told = {"WEB_DATABASE": database_url, "WEB_AI": ai_url, "WEB_HTTP": "127.0.0.1:0"}
        return Service(self, "web-server", told | environment)

    def channel(self, service) -> grpc.Channel:
        return self.enter_context(grpc.insecure_channel(service.address))

    def database_client(self, service):
        return database.Client(self.channel(service))

    def ai_client(self, service):
        return ai.Client(self.channel(service))

    def business_client(self, service, database_service):
        return business.Client(self.channel(service), self.channel(database_service))
