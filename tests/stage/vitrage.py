"""Vitrage's graph, notifier and API, and what tests ask them. Its last release needs MariaDB for some of it."""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import requests

from tests.lab.broker import free_ports
from tests.stage.cloud import Cloud
from tests.stage.programs import Programs, Service
from tools.lib import prepare

#: What operators get.
ETC = pathlib.Path(__file__).parent.parent.parent / "etc/vitrage"
# Vitrage's package has none.
PASTE = """\
[composite:vitrage+noauth]
use = egg:Paste#urlmap
/v1 = v1
[app:v1]
paste.app_factory = vitrage.api.app:app_factory
root = vitrage.api.controllers.v1.root.V1Controller
"""
Vertex = dict[str, Any]


class Vitrage(Service):
    """Use as a context manager."""

    environment = prepare.VITRAGE

    def __init__(self, transport_url: str, database: str, cloud: Cloud) -> None:
        """database: an empty one, of MariaDB. cloud: it is asked for hosts and instances. Templates hold for what it
        lists only: for Vitrage all else is a placeholder."""
        super().__init__(transport_url)
        self._port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self._port}"
        self._options: dict[str, dict[str, object]] = {
            "DEFAULT": {"transport_url": transport_url},
            "api": {"host": "127.0.0.1", "port": self._port, "auth_mode": "noauth", "workers": 1},
            "database": {"connection": database},
            "oslo_messaging_notifications": {"driver": "messagingv2"},
            "datasources": {"types": "nova.host,nova.instance,doctor,vmhb"},
            "evaluator": {"workers": 1},
            "service_credentials": {
                "auth_type": "password",
                "auth_url": f"{cloud.url}/v3",
                "username": "vitrage",
                "password": cloud.password,
                "project_name": "service",
                "user_domain_id": "default",
                "project_domain_id": "default",
            },
        }

    def set_up(self, programs: Programs) -> None:
        """As `Service` has it."""
        values = programs.folder / "values"
        (its_own,) = programs.venv.glob("lib/python3*/site-packages/vitrage/tests/resources/datasources_values")
        shutil.copytree(its_own, values, ignore=shutil.ignore_patterns("erroneous_values"))
        shutil.copy(ETC / "datasources_values/vmhb.yaml", values)
        (programs.folder / "paste.ini").write_text(PASTE)
        self._options["api"]["paste_config"] = programs.folder / "paste.ini"
        self._options["entity_graph"] = {"datasources_values_dir": values}
        conf = programs.write("vitrage.conf", self._options)
        # Ours first: the paths in it are an operator's.
        self._config = ("--config-file", str(ETC / "vmhb.conf"), "--config-file", str(conf))
        programs.run(str(programs.venv / "bin/vitrage-dbsync"), *self._config)
        self.start()
        for name in ("vitrage-notifier", "vitrage-api"):
            programs.spawn(name, name, *self._config)
        programs.wait_answers("vitrage-api", f"{self.url}/v1")
        programs.wait_said("vitrage-notifier", "Service - Started")
        self.vitrage("template", "add", "--path", str(ETC / "templates/vmhb.yaml"), "--type", "standard", "--wait")

    def start(self) -> None:
        """The graph, until it listens."""
        said = self.programs.log("vitrage-graph").count("Listening on")
        self.programs.spawn("vitrage-graph", "vitrage-graph", *self._config)
        self.programs.wait_said("vitrage-graph", "Listening on", said + 1)

    def kill(self) -> None:
        """kill -9, of the graph."""
        self.programs.kill("vitrage-graph")

    def vitrage(self, *argv: str) -> str:
        """The operator's command."""
        access = ["--os-auth-type", "vitrage-noauth", "--user-id", "u1", "--project-id", "p1", "--roles", "admin"]
        return self.programs.run(str(self.programs.venv / "bin/vitrage"), *access, "--endpoint", self.url, *argv)

    def doctor(self, host: str, status: str) -> None:
        """As OPNFV doctor's inspector says it of a host: up or down."""
        details = {"hostname": host, "source": "inspector", "cause": "link-down", "severity": "critical"}
        details |= {"status": status, "monitor_id": "m1", "monitor_event_id": "1"}
        self.vitrage("event", "post", "--type", "compute.host.down", "--details", json.dumps(details))

    def graph(self) -> tuple[list[Vertex], list[tuple[Vertex, str, Vertex]]]:
        """Vertices that are not deleted, and the edges between them: source, label, target."""
        headers = {"X-User-Id": "u1", "X-Project-Id": "p1", "X-Roles": "admin", "X-User-Name": "admin"}
        asked = {"graph_type": "graph", "all_tenants": "true"}
        answer = requests.post(f"{self.url}/v1/topology", headers=headers, data=asked, timeout=60)
        answer.raise_for_status()
        found = answer.json()
        nodes = found["nodes"]
        edges = [
            (nodes[link["source"]], str(link["relationship_type"]), nodes[link["target"]])
            for link in found["links"]
            if not link.get("vitrage_is_deleted")
        ]
        return [node for node in nodes if not node.get("vitrage_is_deleted")], edges

    def alarms(self, fault_id: str) -> list[Vertex]:
        """Of the fault: one, or none."""
        return [one for one in self.graph()[0] if one["vitrage_type"] == "vmhb" and one.get("id") == fault_id]
