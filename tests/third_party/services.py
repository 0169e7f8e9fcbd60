"""Services of one check, on free loopback ports: they are stopped when the check ends."""

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
    """A program that runs until its check ends, and its output."""

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
        """Polls `ready` until its result is true, and returns the result."""
        until = time.monotonic() + TIMEOUT
        while not (found := ready()):
            assert self.child.poll() is None, f"`{self.log.stem}` ended:\n{self.log.read_text()}"
            waited = f"timed out after {TIMEOUT} s waiting for `{self.log.stem}`"
            assert time.monotonic() < until, f"{waited}:\n{self.log.read_text()}"
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
    """One of the project's services, once it serves."""

    def __init__(self, services, name, environment, *wrapper):
        variables = {"PSPD_NAME": name, "PSPD_LISTEN": "127.0.0.1:0", "PSPD_INSECURE_LOOPBACK": "1"}
        super().__init__(services, name, [*wrapper, services.binaries / name], variables | environment)
        self.address = self.wait_for(self._address)
        self.port = self.address.rpartition(":")[2]
        self.url = f"http://{self.address}"

    def _address(self):
        for line in self.log.read_text().splitlines(keepends=True):
            # The last line may be incomplete.
            if '"message":"serving"' in line and line.endswith("\n"):
                return json.loads(line)["address"]
        return None


class Services(contextlib.ExitStack):
    """The processes of one check, and their folder."""

    def __init__(self, binaries: str):
        super().__init__()
        self.binaries = pathlib.Path(binaries)
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory(prefix="pspd-test-")))
        self.store = self.folder / "store.sqlite"
        self.numbers = itertools.count()

    def __exit__(self, kind, error, traceback):
        if error:
            for log in self.folder.glob("*.log"):
                error.add_note(f"{log.stem} last lines:\n" + "\n".join(log.read_text().splitlines()[-10:]))
        return super().__exit__(kind, error, traceback)

    def database(self, store=None, *wrapper, **environment) -> Service:
        variables = {"DATABASE_STORE": str(store or self.store)}
        return Service(self, "database-server", variables | environment, *wrapper)

    def ai(self, database_url, **environment) -> Service:
        return Service(self, "ai-server", {"AI_DATABASE": database_url} | environment)

    def web(self, database_url, ai_url, **environment) -> Service:
        variables = {"WEB_DATABASE": database_url, "WEB_AI": ai_url, "WEB_HTTP": "127.0.0.1:0"}
        return Service(self, "web-server", variables | environment)

    def channel(self, service) -> grpc.Channel:
        return self.enter_context(grpc.insecure_channel(service.address))

    def database_client(self, service):
        return database.Client(self.channel(service))

    def ai_client(self, service):
        return ai.Client(self.channel(service))

    def business_client(self, service, database_service):
        return business.Client(self.channel(service), self.channel(database_service))
