"""A Keystone and a Nova just good enough for Masakari's engine and our reporter, in a thread of this process.

Nova keeps to its own rules where they decide whether somebody's machine is started: what is being done to an instance
refuses the next request with 409, a clean shutdown of a guest that hangs takes its time, and who stopped it is noted.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PASSWORD = "secret"


@dataclass
class FakeServer:
    """An instance. Times are seconds: a clean shutdown that the guest does not answer, and a boot."""

    host: str = "cpt1"
    project_id: str = "p"
    vm_state: str = "active"
    task_state: str | None = None
    metadata: dict[str, str] = field(default_factory=lambda: {"HA_Enabled": "True"})
    extra_specs: dict[str, str] = field(default_factory=dict)
    shutdown_time: float = 1.0
    boot_time: float = 0.5
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    #: What was asked for: (moment, action, by a user?), refused or not.
    asked: list[tuple[float, str, bool]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def actions(self, *, by_user: bool = False) -> list[str]:
        """What the engine asked Nova to do to it, or its user."""
        return [what for _, what, user in self.asked if user is by_user]


class Cloud:
    """Use as a context manager. `masakari_url` goes into the catalogue; hosts: on which nova-compute runs, of those
    who ask for all."""

    def __init__(self, masakari_url: str = "http://127.0.0.1:9/v1", hosts: Sequence[str] = ()) -> None:
        self.password = PASSWORD
        self.masakari_url = masakari_url
        self.hosts = list(hosts)
        self.servers: dict[str, FakeServer] = {}
        self.on_done: Any = lambda server, what: None
        self.on_refused: Any = lambda server, what: None
        self.lock = threading.RLock()
        cloud = self

        class Handler(_Handler):
            def __init__(self, *arguments: Any) -> None:
                self.cloud = cloud
                super().__init__(*arguments)

        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._httpd.server_address[1]}"

    def __enter__(self) -> Cloud:
        threading.Thread(target=self._httpd.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._httpd.shutdown()
        self._httpd.server_close()

    def server(self, **options: Any) -> FakeServer:
        """Another instance."""
        one = FakeServer(**options)
        self.servers[one.uuid] = one
        return one

    def act(self, one: FakeServer, what: str, *, by_user: bool = False) -> bool:
        """os-stop, os-start or reboot, as Nova's API takes it; False: refused with 409."""
        with self.lock:
            one.asked.append((time.monotonic(), what, by_user))
            allowed = {"os-stop": ("active",), "os-start": ("stopped",), "reboot": ("active", "stopped")}[what]
            refused = one.task_state is not None or one.vm_state not in allowed
            if not refused:
                task = {"os-stop": "powering-off", "os-start": "powering-on", "reboot": "rebooting_hard"}[what]
                one.task_state = task
        if refused:
            self.on_refused(one, what)
            return False
        after = one.shutdown_time if what == "os-stop" else one.boot_time
        timer = threading.Timer(after, self.finish, (one, what))
        timer.daemon = True
        timer.start()
        return True

    def finish(self, one: FakeServer, what: str) -> None:
        """Done, now; by itself it is after its time."""
        with self.lock:
            one.vm_state, one.task_state = ("stopped" if what == "os-stop" else "active"), None
            one.done.append(what)
        self.on_done(one, what)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cloud: Cloud

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def _answer(self, code: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        content = json.dumps({} if body is None else body).encode()
        self.send_response(code)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if self.path.startswith("/v3/auth/tokens"):
            self._token(body)
            return
        one = self.cloud.servers.get(self.path.split("/")[4])
        what = next(iter(body))
        if one is None:
            self._answer(404, {"itemNotFound": {"code": 404, "message": "no such instance"}})
        elif self.cloud.act(one, what):
            self._answer(202)
        else:
            said = f"Cannot '{what}' instance {one.uuid} while it is in task_state {one.task_state}"
            self._answer(409, {"conflictingRequest": {"code": 409, "message": said}})

    def _token(self, body: Any) -> None:
        if body["auth"]["identity"]["password"]["user"]["password"] != self.cloud.password:
            self._answer(
                401,
                {
                    "error": {
                        "code": 401,
                        "title": "Unauthorized",
                        "message": "The request you have made requires authentication.",
                    }
                },
            )
            return
        domain = {"id": "default", "name": "Default"}
        token = {
            "methods": ["password"],
            "roles": [{"id": "r", "name": "admin"}],
            "issued_at": "2026-01-01T00:00:00.000000Z",
            "expires_at": "2036-01-01T00:00:00.000000Z",
            "user": {"id": "u", "name": "admin", "domain": domain},
            "project": {"id": "p", "name": "admin", "domain": domain},
            "catalog": [
                _service("compute", "nova", f"{self.cloud.url}/compute/v2.1"),
                _service("identity", "keystone", f"{self.cloud.url}/v3"),
                _service("instance-ha", "masakari", self.cloud.masakari_url),
            ],
        }
        self._answer(201, {"token": token}, {"X-Subject-Token": uuid.uuid4().hex})

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].rstrip("/")
        parts = path.split("/")
        if path in ("", "/v3"):
            version = {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": f"{self.cloud.url}/v3/"}]}
            self._answer(200, {"version": version} if path else {"versions": {"values": [version]}})
        elif path == "/compute/v2.1":
            links = [{"rel": "self", "href": f"{self.cloud.url}/compute/v2.1/"}]
            self._answer(
                200,
                {
                    "version": {
                        "id": "v2.1",
                        "status": "CURRENT",
                        "version": "2.96",
                        "min_version": "2.1",
                        "links": links,
                    }
                },
            )
        elif path.endswith("/os-services"):
            asked = self.path.partition("host=")[2].partition("&")[0]
            hosts = [asked] if asked else self.cloud.hosts
            up = {"binary": "nova-compute", "status": "enabled", "state": "up", "zone": "nova"}
            self._answer(200, {"services": [{"id": f"service-{host}", "host": host, **up} for host in hosts]})
        elif path.endswith("/servers/detail"):
            self._answer(200, {"servers": [_shown(one) for one in list(self.cloud.servers.values())]})
        elif len(parts) > 4 and parts[4] in self.cloud.servers:
            self._server(self.cloud.servers[parts[4]], parts[-1] == "os-instance-actions")
        else:
            self._answer(404, {"itemNotFound": {"code": 404, "message": path}})

    def _server(self, one: FakeServer, actions: bool) -> None:
        if actions:
            done = [
                {"action": what.removeprefix("os-"), "start_time": f"{at:020.6f}", "user_id": "u" if user else None}
                for at, what, user in one.asked
            ]
            self._answer(200, {"instanceActions": done})
            return
        self._answer(200, {"server": _shown(one)})


def _shown(one: FakeServer) -> dict[str, Any]:
    return {
        "id": one.uuid,
        "name": "web-1",
        "tenant_id": one.project_id,
        "status": one.vm_state.upper(),
        "metadata": one.metadata,
        "flavor": {"original_name": "m1.ha", "extra_specs": one.extra_specs},
        "OS-EXT-STS:vm_state": one.vm_state,
        "OS-EXT-STS:task_state": one.task_state,
        "OS-EXT-STS:power_state": 4 if one.vm_state == "stopped" else 1,
        "OS-EXT-SRV-ATTR:host": one.host,
        "links": [],
    }


def _service(kind: str, name: str, url: str) -> dict[str, Any]:
    endpoints = [
        {"interface": one, "region": "RegionOne", "region_id": "RegionOne", "url": url, "id": f"{name}-{one}"}
        for one in ("public", "internal", "admin")
    ]
    return {"type": kind, "name": name, "id": name, "endpoints": endpoints}
