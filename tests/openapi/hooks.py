"""How a body is written whose media type schemathesis does not know: one JSON value per line."""

import json

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(ctx, value):
    return value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n"


@schemathesis.hook
def before_call(ctx, case, kwargs):
    """A poll waits up to half a minute for something to happen; nothing does here."""
    if case.operation.path != "/api/v1/realtime/poll":
        return
    asked = case.query if case.method == "GET" else case.body
    if not isinstance(asked, dict):
        return
    told = asked.get("timeout", 30)
    if isinstance(told, (int, float)) and not isinstance(told, bool) and told > 0:
        asked["timeout"] = 0
