"""The process: its configuration, its signals and its exit code."""

import asyncio
import os
import resource
import signal
import sys

from ai_server import log, problem, serving, settings

# EX_CONFIG of sysexits.h.
WRONG_CONFIGURATION = 78


def main() -> None:
    try:
        configuration = settings.read(dict(os.environ))
    except settings.ConfigError as error:
        print(f"the configuration is wrong:\n{error}", file=sys.stderr)
        sys.exit(WRONG_CONFIGURATION)
    log.start(configuration.log_level)
    problem.service = configuration.name
    allow_connections()
    try:
        asyncio.run(run(configuration))
        code = 0
    except Exception as error:
        log.error(f"the service failed: {error}")
        code = 1
    # Does not wait for the learning thread, whose result nobody waits for any more.
    os._exit(code)


async def run(configuration: settings.Settings) -> None:
    stopping = asyncio.Event()

    def stop():
        if not stopping.is_set():
            log.info("draining")
            stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    await serving.serve(configuration, stopping)


def allow_connections() -> None:
    """Raises the limit of open files, which bounds connections, as far as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
