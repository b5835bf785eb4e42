"""Mistral's engine, executor, event engine and API, as one program, and what tests ask them."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import requests

from tests.lab.broker import free_ports
from tests.stage.programs import Programs, Service
from tools.lib import prepare

#: What operators get.
ETC = pathlib.Path(__file__).parent.parent.parent / "etc/mistral"
# Mistral's own migrations alter constraints, which SQLite can't.
SETUP = """\
from mistral import config
config.parse_args(["--config-file", "mistral.conf"])
from mistral.db.v2 import api
from mistral.services import action_manager
api.setup_db()
action_manager.sync_db()
"""
SERVERS = "engine,executor,event-engine,api"


class Mistral(Service):
    """Use as a context manager."""

    environment = prepare.MISTRAL

    def __init__(self, transport_url: str) -> None:
        super().__init__(transport_url)
        self._port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self._port}/v2"

    def set_up(self, programs: Programs) -> None:
        """As `Service` has it."""
        everybody = programs.folder / "policy.yaml"
        everybody.write_text('"event_triggers:create:public": "@"\n"workflows:publicize": "@"\n')
        programs.write(
            "mistral.conf",
            {
                "DEFAULT": {"transport_url": self.transport_url},
                "api": {"host": "127.0.0.1", "port": self._port},
                # Its thread is in the database once a second, in the process that forks all servers, and the lock that
                # it holds at that moment stays held in them. Seen in two of some twenty starts.
                "cron_trigger": {"enabled": "false"},
                "database": {"connection": f"sqlite:///{programs.folder}/mistral.sqlite"},
                "event_engine": {"event_definitions_cfg_file": ETC / "event_definitions.yaml"},
                "oslo_policy": {"policy_file": everybody},
                "pecan": {"auth_enable": "false"},
            },
        )
        programs.run(str(programs.venv / "bin/python"), "-c", SETUP)
        self.start()

    def start(self) -> None:
        """All of it, until it answers and listens."""
        said = self.programs.log("mistral").count("Found ")
        conf = str(self.programs.folder / "mistral.conf")
        self.programs.spawn("mistral", "mistral-server", "--server", SERVERS, "--config-file", conf)
        self.programs.wait_answers("mistral", f"{self.url}/workflows")
        self.programs.wait_said("mistral", "Found ", said + 1)  # so many event triggers

    def kill(self) -> None:
        """kill -9."""
        self.programs.kill("mistral")

    def triggers(self, **workflow_input: object) -> None:
        """As an operator makes them."""
        environ = {"MISTRAL_URL": self.url, "OS_TOKEN": "none"}
        self.programs.run(str(ETC / "triggers.sh"), "vmhb_fault", json.dumps(workflow_input), environ=environ)

    def workflow(self) -> None:
        """The sample, where it is not there yet; no trigger starts it."""
        if not any(one["name"] == "vmhb_fault" for one in self.ask("GET", "/workflows")["workflows"]):
            text = (ETC / "vmhb_fault.yaml").read_bytes()
            self.ask("POST", "/workflows", data=text, headers={"Content-Type": "text/plain"})

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """The API."""
        answer = requests.request(method, f"{self.url}{path}", timeout=30, **more)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.text else None

    def executions(self, fault_id: str) -> list[dict[str, Any]]:
        """Those that ended and were about this fault, the oldest first; `output` is read."""
        fields = "workflow_name,state,output,created_at,state_info"
        found = self.ask("GET", "/executions", params={"sort_keys": "created_at", "fields": fields})["executions"]
        for one in found:
            one["output"] = json.loads(one.get("output") or "{}")
        return [one for one in found if one["output"].get("fault_id") == fault_id]
