"""JSON lines on standard output, with the field names of all services."""

import contextlib
import datetime
import functools
import json
import logging
import threading

# `trace` shows no more than `debug`.
LEVELS = {"off": 100, "error": 40, "warn": 30, "info": 20, "debug": 10, "trace": 10}
_lock = threading.Lock()
_least = LEVELS["info"]


def start(level: str) -> None:
    """Sets the level, and takes the lines of the libraries too."""
    global _least
    _least = LEVELS[level]
    logging.captureWarnings(True)
    logging.basicConfig(handlers=[_Libraries()], level=logging.WARNING)


def now() -> str:
    """RFC 3339, in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _write(level: str, message: str, **fields) -> None:
    """Writes a line, without the fields that are None."""
    if LEVELS[level] < _least:
        return
    line = {"timestamp": now(), "level": level.upper(), "message": message, **fields}
    line = {name: value for name, value in line.items() if value is not None}
    text = json.dumps(line, ensure_ascii=False, separators=(",", ":"), default=str)
    # There is nowhere to report that standard output is closed.
    with _lock, contextlib.suppress(OSError):
        print(text, flush=True)


debug, info, warn, error = (functools.partial(_write, level) for level in ("debug", "info", "warn", "error"))


class _Libraries(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        write = error if record.levelno >= logging.ERROR else warn
        write(record.getMessage(), cause=record.exc_info and repr(record.exc_info[1]), target=record.name)
