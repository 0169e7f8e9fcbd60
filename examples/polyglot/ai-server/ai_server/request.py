"""The limits of ids, texts, labels and intervals in requests, and the errors of requests beyond them."""

import re

from ai_server.problem import invalid

DEFAULT_MODEL = "default"
MODEL = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# In bytes.
LONGEST_TEXT = 128 << 10
LONGEST_LABEL = 128
MOST_LABELS = 64
# In milliseconds.
INTERVALS = range(100, 60_001)
DEFAULT_INTERVAL = "1000"


def model(name: str) -> str:
    """The model that a request names, or the default model."""
    if not name:
        return DEFAULT_MODEL
    if not MODEL.fullmatch(name):
        message = f"`{name}` is not a valid model id: use 1 to 64 letters, digits, `_`, `-` and `.`"
        raise invalid("model_id", "MODEL_ID_INVALID", message)
    return name


def interval(metadata: dict) -> float:
    """The interval of a monitor, in seconds."""
    text = metadata.get("interval-ms", DEFAULT_INTERVAL)
    if not (text.isascii() and text.isdigit() and int(text) in INTERVALS):
        message = "`interval-ms` must be a number from 100 to 60000"
        raise invalid("interval-ms", "INTERVAL_INVALID", message)
    return int(text) / 1000


def check_text(field: str, text: str) -> None:
    if not text.strip():
        raise invalid(field, "TEXT_EMPTY", "the text is empty")
    size = len(text.encode())
    if size > LONGEST_TEXT:
        message = f"the text has {size} bytes; at most {LONGEST_TEXT} are allowed"
        raise invalid(field, "TEXT_TOO_LONG", message)


def check_label(label: str) -> None:
    if not label.strip() or len(label.encode()) > LONGEST_LABEL:
        message = f"the label must have 1 to {LONGEST_LABEL} bytes"
        raise invalid("expected_output", "LABEL_INVALID", message)


def check_labels(labels: set[str]) -> None:
    if len(labels) > MOST_LABELS:
        message = f"a model can have at most {MOST_LABELS} labels"
        raise invalid("expected_output", "TOO_MANY_LABELS", message)
