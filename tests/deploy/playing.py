"""ansible-playbook, as an operator runs it: what changed, what failed."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.lab.broker import BIN, Broker
from tools.lib.prepare import ROOT

COLLECTIONS = ROOT / "deploy"
COLLECTION = COLLECTIONS / "ansible_collections" / "nova_vmhb" / "deploy"
#: Seconds of a run, on a busy machine.
LONG = 900.0


@dataclass(frozen=True)
class Played:
    """One run."""

    #: "host: task", of what changed, and of what failed with what it said.
    changed: tuple[str, ...]
    failed: tuple[str, ...]
    said: str

    def __repr__(self) -> str:
        return f"<Played {len(self.changed)} changed: {', '.join(self.changed)}; failed: {self.failed}>"


class Ansible:
    """A folder with an inventory."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self._hosts: dict[str, dict[str, Any]] = {}
        self._groups: dict[str, list[str]] = {}
        self.variables: dict[str, Any] = {}
        #: Of ansible-playbook, besides.
        self.environ: dict[str, str] = {}

    def host(self, name: str, groups: Sequence[str], enter: Sequence[str], shared: pathlib.Path, **more: Any) -> None:
        """enter: what a Python of that host is started by: Ansible's modules are given to it on its standard input."""
        python = self.folder / f"python-{name}"
        python.write_text(f'#!/bin/sh\nexec {" ".join(enter)} /usr/bin/python3 "$@"\n')
        python.chmod(0o755)
        self._hosts[name] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": str(python),
            "ansible_remote_tmp": str(shared),
            "ansible_pipelining": True,
            "ansible_become": False,
            **more,
        }
        for group in groups:
            self._groups.setdefault(group, []).append(name)

    def servers(self, broker: Broker) -> None:
        """The hosts of RabbitMQ and MariaDB: this machine, with what leads to the lab's broker."""
        environ = [f"'{name}={value}'" for name, value in broker.environ.items() if name != "PATH"]
        path = f"PATH={BIN}:{broker.environ['PATH']}"
        self.host("rabbit", ("vmhb_broker",), ["env", *environ, path], self.folder / "tmp")
        self.host("maria", ("vmhb_database",), [], self.folder / "tmp")

    def play(self, playbook: str | pathlib.Path, *options: str, **variables: Any) -> Played:
        """Run it; nothing is raised for what fails."""
        groups: dict[str, Any] = {name: {"hosts": {host: {} for host in hosts}} for name, hosts in self._groups.items()}
        inventory = {"all": {"hosts": self._hosts, "children": groups}}
        (self.folder / "inventory.json").write_text(json.dumps(inventory))
        (self.folder / "variables.json").write_text(json.dumps({**self.variables, **variables}))
        command = ["ansible-playbook", "-i", str(self.folder / "inventory.json"), str(playbook), *options]
        command += ["-e", f"@{self.folder / 'variables.json'}"]
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=LONG,
            env=environ(self.folder, self.environ),
            cwd=self.folder,
        )
        try:
            told = json.loads(done.stdout[done.stdout.index("{") :])
        except ValueError:
            return Played((), (f"ended with {done.returncode}: {done.stdout[-1500:]}{done.stderr[-1500:]}",), "")
        return _played(told, done.stderr, done.returncode)


def environ(folder: pathlib.Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ansible's, with nothing of this user's own."""
    config = folder / "ansible.cfg"
    config.touch()
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHON"))},
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_HOME": str(folder / "ansible"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "ansible"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        **(more or {}),
    }


def _played(told: dict[str, Any], stderr: str, code: int) -> Played:
    changed, failed = [], []
    for play in told["plays"]:
        for task in play["tasks"]:
            for host, result in task["hosts"].items():
                name = f"{host}: {task['task']['name']}"
                if result.get("failed") or result.get("unreachable"):
                    failed.append(f"{name}: {json.dumps(result)[:1500]}")
                elif result.get("changed"):
                    changed.append(name)
    if code and not failed:
        failed.append(f"ended with {code}: {stderr[-1500:]}")
    return Played(tuple(changed), tuple(failed), stderr)
