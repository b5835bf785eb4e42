"""Aodh's API, listener and notifier, and ceilometer's notification agent, and what tests ask them."""

from __future__ import annotations

import pathlib
from typing import Any

import requests

from tests.lab.broker import free_ports
from tests.stage.programs import Programs, Service
from tools.lib import prepare

#: What operators get.
ETC = pathlib.Path(__file__).parent.parent.parent / "etc"
DAEMONS = ("aodh-listener", "aodh-notifier")
AGENT = "ceilometer-agent-notification"


class Aodh(Service):
    """Use as a context manager."""

    environment = prepare.TELEMETRY

    def __init__(self, transport_url: str) -> None:
        super().__init__(transport_url)
        self._port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self._port}"

    def set_up(self, programs: Programs) -> None:
        """As `Service` has it."""
        conf = programs.write(
            "aodh.conf",
            {
                "DEFAULT": {"transport_url": self.transport_url},
                "api": {"auth_mode": "noauth"},
                "database": {"connection": f"sqlite:///{programs.folder}/aodh.sqlite"},
            },
        )
        self._config = ("--config-file", str(conf), "--config-file", str(ETC / "aodh/vmhb.conf"))
        programs.run(str(programs.venv / "bin/aodh-dbsync"), *self._config)
        programs.spawn("aodh-api", "aodh-api", "--host", "127.0.0.1", "--port", str(self._port), "--", *self._config)
        for name in DAEMONS:
            self.start(name)
        programs.wait_answers("aodh-api", f"{self.url}/v2/alarms")

    def start(self, name: str) -> None:
        """One of DAEMONS."""
        self.programs.spawn(name, name, *self._config)

    def kill(self, name: str) -> None:
        """kill -9."""
        self.programs.kill(name)

    def alarms(self, project: str, url: str, *instance: str, vitrage: bool = False) -> None:
        """As an operator or tenant makes them. vitrage: of Vitrage's alarms."""
        access = {"OS_AUTH_TYPE": "aodh-noauth", "AODH_USER_ID": "u1", "AODH_PROJECT_ID": project}
        events = {"EVENTS": "vitrage.alarm.activate vitrage.alarm.deactivate"} if vitrage else {}
        environ = {**access, **events, "AODH_AODH_ENDPOINT": self.url, "CLIENT": "aodh"}
        self.programs.run(str(ETC / "aodh/alarms.sh"), url, *instance, environ=environ)

    def states(self, project: str) -> dict[str, str]:
        """Of a project's alarms: name -> state."""
        headers = {"X-User-Id": "u1", "X-Project-Id": project, "X-Roles": "member"}
        answer = requests.get(f"{self.url}/v2/alarms", headers=headers, timeout=30)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return {one["name"]: one["state"] for one in found}


class Ceilometer(Service):
    """The notification agent. Use as a context manager."""

    environment = prepare.TELEMETRY

    def set_up(self, programs: Programs) -> None:
        """As `Service` has it."""
        conf = programs.write(
            "ceilometer.conf",
            {
                "DEFAULT": {
                    "transport_url": self.transport_url,
                    "event_pipeline_cfg_file": ETC / "ceilometer/event_pipeline.yaml",
                },
                "event": {"definitions_cfg_file": ETC / "ceilometer/event_definitions.yaml"},
                "notification": {"pipelines": "event"},
            },
        )
        # Ours first: the paths in it are an operator's.
        self._config = ("--config-file", str(ETC / "ceilometer/vmhb.conf"), "--config-file", str(conf))
        self.start()

    def start(self) -> None:
        """Begin."""
        self.programs.spawn(AGENT, AGENT, *self._config)

    def kill(self) -> None:
        """kill -9."""
        self.programs.kill(AGENT)
