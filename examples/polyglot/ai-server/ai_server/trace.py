"""The W3C trace context of the current call, and the caller. Calls that are made for it have its span as their parent."""

import contextvars
import dataclasses
import re
import secrets

LONGEST_STATE = 512
_SAMPLED = 1
# A later version may add parts; version 00 has none.
_TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<span>(?!0{16})[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)
_current = contextvars.ContextVar("trace")


@dataclasses.dataclass(frozen=True)
class Context:
    trace_id: str
    span_id: str
    # None at the beginning of a trace.
    parent_id: str | None = None
    flags: int = _SAMPLED
    state: str | None = None
    # The name on the caller's certificate.
    caller: str | None = None

    def metadata(self) -> list[tuple[str, str]]:
        """What a call that is made on behalf of this one carries."""
        parent = ("traceparent", f"00-{self.trace_id}-{self.span_id}-{self.flags & _SAMPLED:02x}")
        return [parent, ("tracestate", self.state)] if self.state else [parent]


def begin(metadata=(), caller: str | None = None) -> Context:
    """Continues the trace of a call's metadata, or starts one without a valid `traceparent`."""
    parents = [value for key, value in metadata if key == "traceparent"]
    parent = _TRACEPARENT.fullmatch(parents[0]) if len(parents) == 1 else None
    span_id = secrets.token_hex(8)
    if parent is None or parent["version"] == "00" and parent["more"]:
        context = Context(secrets.token_hex(16), span_id, caller=caller)
    else:
        state = ",".join(value for key, value in metadata if key == "tracestate")
        context = Context(
            trace_id=parent["trace"],
            span_id=span_id,
            parent_id=parent["span"],
            flags=int(parent["flags"], 16),
            state=state if len(state) <= LONGEST_STATE else None,
            caller=caller,
        )
    _current.set(context)
    return context


def current() -> Context:
    return _current.get(None) or begin()
