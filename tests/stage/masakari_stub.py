"""A Masakari that only notes what it is told, beside a Keystone and a Nova of ours: what a recovery would have hit.

It recovers nothing, and says of each notification what it was told to say: `running`, for ever, by default.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.stage.cloud import PASSWORD, Cloud


@dataclass(frozen=True)
class Posted:
    """One notification, and when (monotonic seconds) it came."""

    at: float
    host: str
    instance_uuid: str
    event: str
    uuid: str
    shown: dict[str, Any]


class MasakariStub:
    """Use as a context manager. `cloud`: the Keystone and the Nova; what is to be recovered must be a server there."""

    def __init__(self) -> None:
        self._came = threading.Condition()
        self._posted: list[Posted] = []
        self._status: dict[str, str] = {}
        self._numbers = itertools.count(1)
        stub = self

        class Handler(_Handler):
            def __init__(self, *arguments: Any) -> None:
                self.stub = stub
                super().__init__(*arguments)

        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._httpd.daemon_threads = True
        self.cloud = Cloud(f"http://127.0.0.1:{self._httpd.server_address[1]}/v1")

    def __enter__(self) -> MasakariStub:
        self.cloud.__enter__()
        threading.Thread(target=self._httpd.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._httpd.shutdown()
        self._httpd.server_close()
        self.cloud.__exit__()

    def options(self) -> dict[str, Any]:
        """Of a consumer that recovers through it, and asks its Nova where an instance is."""
        return consumer_options(self.cloud)

    def posted(self, instance_uuid: str | None = None) -> list[Posted]:
        """What it was told so far, of one instance or of all."""
        with self._came:
            return [one for one in self._posted if instance_uuid in (None, one.instance_uuid)]

    def wait(self, instance_uuid: str, timeout: float) -> Posted | None:
        """The first about this instance; None where there is none within so many seconds."""
        with self._came:
            self._came.wait_for(
                lambda: any(one.instance_uuid == instance_uuid for one in self._posted), max(timeout, 0.0)
            )
            return next((one for one in self._posted if one.instance_uuid == instance_uuid), None)

    def say(self, posted: Posted, status: str) -> None:
        """What it says of this one from now on."""
        self._status[posted.uuid] = status

    def take(self, told: dict[str, Any]) -> dict[str, Any]:
        """One more; how it is shown."""
        number = next(self._numbers)
        shown = {
            "id": number,
            **{"notification_uuid": str(uuid.uuid4()), "status": "running", "source_host_uuid": str(uuid.uuid4())},
            **{"type": told["type"], "generated_time": told["generated_time"], "payload": told["payload"]},
            **{"created_at": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000000"), "updated_at": None},
        }
        payload = told["payload"]
        posted = Posted(
            *(time.monotonic(), told["hostname"], payload["instance_uuid"], payload["event"]),
            *(shown["notification_uuid"], shown),
        )
        with self._came:
            self._posted.append(posted)
            self._came.notify_all()
        return shown

    def shown(self, since: str = "") -> list[dict[str, Any]]:
        """All notifications that were generated since then, as Masakari writes it."""
        return [
            {**one.shown, "status": self._status.get(one.uuid, "running")}
            for one in self.posted()
            if one.shown["generated_time"] >= since
        ]


def consumer_options(cloud: Cloud) -> dict[str, Any]:
    """Of a consumer whose [nova], and so whose reporter of recoveries, has the credentials of this cloud."""
    keystone: dict[str, object] = {
        **{"auth_url": f"{cloud.url}/v3", "username": "admin", "password": PASSWORD, "project_name": "admin"},
        **{"user_domain_name": "Default", "project_domain_name": "Default", "auth_type": "password"},
    }
    return {
        "consumer": {"reporters": "masakari, log"},
        "nova": keystone,
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stub: MasakariStub

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        self._answer(202, {"notification": self.stub.take(body["notification"])})

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        parts = asked.path.strip("/").split("/")
        options = {name: values[0] for name, values in parse_qs(asked.query).items()}
        if parts[-1] == "notifications":
            # A page after a marker is asked for until one is empty: all are on the first.
            found = [] if "marker" in options else self.stub.shown(options.get("generated-since", ""))
            self._answer(200, {"notifications": found})
        elif len(parts) == 3 and parts[1] == "notifications":
            found = [one for one in self.stub.shown() if one["notification_uuid"] == parts[2]]
            self._answer(200 if found else 404, {"notification": found[0]} if found else {})
        else:
            link = {"rel": "self", "href": f"{self.stub.cloud.masakari_url}/"}
            version = {"id": "v1.0", "status": "CURRENT", "version": "1.3", "min_version": "1.0", "links": [link]}
            self._answer(200, {"versions": [version]})

    def _answer(self, code: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
