"""Masakari's own api and engine, in a process and a Python of their own, and what tests ask them."""

from __future__ import annotations

import pathlib
import signal
import tempfile
from collections.abc import Mapping
from typing import Any

import requests

from tests.lab.broker import free_ports
from tests.lab.processes import Processes, wait_until
from tests.stage.cloud import PASSWORD, Cloud
from tools.lib import prepare

PROGRAM = pathlib.Path(__file__).with_name("masakari_process.py")
#: What `tools/test functional` has made.
VENV = prepare.place(prepare.MASAKARI)

CONF = """\
[DEFAULT]
auth_strategy = noauth2
host = control-1
masakari_api_listen = 127.0.0.1
masakari_api_listen_port = {port}
masakari_api_workers = 1
notification_delay_max = 0
transport_url = {transport_url}
os_privileged_user_name = admin
os_privileged_user_password = {password}
os_privileged_user_tenant = admin
os_privileged_user_auth_url = {keystone}/v3
nova_catalog_admin_info = compute:nova:publicURL
os_region_name = RegionOne
periodic_fuzzy_delay = 0
process_unfinished_notifications_interval = 10
verify_interval = 1
state_path = {folder}
[wsgi]
api_paste_config = {paste}
[keystone_authtoken]
auth_type = password
[database]
connection = sqlite:///{folder}/masakari.sqlite
[taskflow]
connection = sqlite:///{folder}/taskflow.sqlite
[oslo_concurrency]
lock_path = {folder}
"""


class Masakari:
    """One of it, with a cloud around it and the host cpt1 registered. Use as a context manager."""

    def __init__(self, transport_url: str = "fake://", more: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """more: group -> option -> value."""
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.cloud = Cloud(self.url)
        self._transport_url = transport_url
        self._more = more or {}
        self._pid = 0

    def __enter__(self) -> Masakari:
        self.cloud.__enter__()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="vmhb-masakari-"))
        self._processes = Processes(self.folder)
        conf = CONF.format(
            port=self.port,
            folder=self.folder,
            keystone=self.cloud.url,
            password=PASSWORD,
            transport_url=self._transport_url,
            paste=VENV / "etc/masakari/api-paste.ini",
        )
        for group, options in self._more.items():
            conf += "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in options.items())]) + "\n"
        (self.folder / "masakari.conf").write_text(conf)
        try:
            self.boot()
            segment = self.ask(
                "POST", "/segments", segment={"name": "s", "recovery_method": "auto", "service_type": "compute"}
            )
            self.segment = segment["segment"]["uuid"]
            self.register("cpt1")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.end()
        self.cloud.__exit__()

    @property
    def log(self) -> str:
        """What it said."""
        return (self.folder / "masakari.out").read_text(errors="replace")

    def boot(self) -> None:
        """Start it, and wait until it answers."""
        python = str(VENV / "bin/python")
        self._pid = self._processes.spawn(
            [python, "-P", str(PROGRAM), str(self.folder / "masakari.conf")],
            log=self.folder / "masakari.out",
            env={"PATH": f"{VENV / 'bin'}:/usr/bin:/bin", "LANG": "C.UTF-8"},
        )

        def answers() -> bool:
            code = self._processes.exit_of(self._pid)
            assert code is None, self.log[-3000:]
            try:
                return requests.get(f"{self.url}/notifications", timeout=5).status_code == 200
            except requests.ConnectionError:
                return False

        wait_until(answers, 120, "Masakari answers", every=0.2)

    def halt(self) -> None:
        """kill -9. Its database stays."""
        self._processes.signal(self._pid, signal.SIGKILL)
        wait_until(lambda: self._processes.exit_of(self._pid) is not None, 10, "Masakari ends")

    def ask(self, method: str, path: str, **body: Any) -> Any:
        """The API."""
        answer = requests.request(method, f"{self.url}{path}", json=body or None, timeout=30)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.text else None

    def register(self, host: str) -> str:
        """A host; returns its uuid."""
        added = {"name": host, "type": "COMPUTE", "control_attributes": "SSH"}
        return str(self.ask("POST", f"/segments/{self.segment}/hosts", host=added)["host"]["uuid"])

    def maintenance(self, host_uuid: str, on: bool) -> None:
        """Of a host."""

        def updated() -> bool:
            try:
                self.ask("PUT", f"/segments/{self.segment}/hosts/{host_uuid}", host={"on_maintenance": on})
            except AssertionError as refusal:
                if "in-use" not in str(refusal):  # while the engine is at anything, of an earlier test, say
                    raise
                return False
            return True

        wait_until(updated, 60, "Masakari updates the host", every=0.5)

    def notifications(self, instance_uuid: str) -> list[dict[str, Any]]:
        """About this instance."""
        found = self.ask("GET", "/notifications")["notifications"]
        return [one for one in found if one["payload"]["instance_uuid"] == instance_uuid]
