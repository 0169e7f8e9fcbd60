"""JSON lines on standard output, with the field names of all services."""

import datetime
import json
import logging
import sys
import threading

# As the level DEBUG is the most detailed line of this service, `trace` is the same.
_LEVELS = {"off": 100, "error": 40, "warn": 30, "info": 20, "debug": 10, "trace": 10}
_lock = threading.Lock()
_least = _LEVELS["info"]


def start(level: str) -> None:
    """Sets the level, and takes the lines of the libraries too."""
    global _least
    _least = _LEVELS[level]
    logging.captureWarnings(True)
    logging.basicConfig(handlers=[_Libraries()], level=max(_least, logging.WARNING))


def debug(message: str, **fields) -> None:
    _write("debug", message, fields)


def info(message: str, **fields) -> None:
    _write("info", message, fields)


def warn(message: str, **fields) -> None:
    _write("warn", message, fields)


def error(message: str, **fields) -> None:
    _write("error", message, fields)


def now() -> str:
    """RFC 3339, in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _write(level: str, message: str, fields: dict) -> None:
    if _LEVELS[level] < _least:
        return
    line = {"timestamp": now(), "level": level.upper(), "message": message, **fields}
    line = {name: value for name, value in line.items() if value is not None}
    text = json.dumps(line, ensure_ascii=False, separators=(",", ":"), default=str)
    with _lock:
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
        except OSError:
            # There is nowhere to report that standard output is closed.
            pass


class _Libraries(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        cause = str(record.exc_info[1]) if record.exc_info else None
        level = "error" if record.levelno >= logging.ERROR else "warn"
        _write(level, record.getMessage(), {"cause": cause, "target": record.name})
