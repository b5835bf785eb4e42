"""A Neutron that has nothing: what Nova asks of it when no server has a port. A WSGI application, `application`.

Nova boots servers with `networks: none` and no Neutron at all, but then answers 500 when it is asked for one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

_Start = Callable[[str, list[tuple[str, str]]], object]


def application(environ: dict[str, Any], start_response: _Start) -> Iterable[bytes]:
    """Every collection is empty, and nothing else is there."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length:
        environ["wsgi.input"].read(length)
    status, body = _answer(environ["REQUEST_METHOD"], environ["PATH_INFO"].rstrip("/"), environ["HTTP_HOST"])
    data = json.dumps(body).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
    return [data]


def _answer(method: str, path: str, host: str) -> tuple[str, dict[str, Any]]:
    parts = path.split("/")[2:]
    if not path:
        links = [{"rel": "self", "href": f"http://{host}/v2.0/"}]
        return "200 OK", {"versions": [{"id": "v2.0", "status": "CURRENT", "links": links}]}
    if method == "GET" and path.startswith("/v2.0") and len(parts) <= 1:
        return "200 OK", {part.replace("-", "_"): [] for part in parts} or {"resources": []}
    return "404 Not Found", {"NeutronError": {"type": "NotFound", "message": path, "detail": ""}}
