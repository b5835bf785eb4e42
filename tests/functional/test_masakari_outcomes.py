"""How each recovery by our tasks ends: whatever Nova, the worker and Masakari's database answer, or fail to.

In Masakari's own Python, with its own classes and exceptions; only who is asked is ours. No engine, no broker.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
from typing import Any

import pytest

from tests.stage.masakari import VENV

PROGRAM = pathlib.Path(__file__).parent.parent / "stage" / "masakari_tasks.py"
CONF = """\
[DEFAULT]
verify_interval = 1
wait_period_after_power_off = 2
wait_period_after_power_on = 2
[taskflow]
connection = sqlite:///{folder}/taskflow.sqlite
[vmhb]
unknown_time = 0.5
poll_interval = 0.1
heartbeat_time = {heartbeat_time}
"""
STOP, START, CONFIRM = "StopOrRebootTask", "StartUnlessRebootedTask", "ConfirmHeartbeatTask"
VM_STATE, TASK_STATE, HOST = "OS-EXT-STS:vm_state", "OS-EXT-STS:task_state", "OS-EXT-SRV-ATTR:host"


def shown(state: str, cause: str | None, **more: Any) -> dict[str, Any]:
    """What a worker says."""
    return {"state": state, "fault": None if cause is None else {"fault_id": "f", "cause": cause}, **more}


HUNG, SILENT, WELL = shown("silent", "guest_hung"), shown("silent", "guest_silent"), shown("alive", None)
BOOTS = shown("waiting", "guest_hung")
ACTIVE, STOPPED = {VM_STATE: "active"}, {VM_STATE: "stopped"}
UNWANTED: dict[str, Any] = {"flavor": {"extra_specs": {}}}  # its flavor asks for no heartbeats

#: What happens, how it ends, what Nova was asked to do, and what is said.
OUTCOMES: list[tuple[dict[str, Any], str, list[str], str]] = [
    # -- whether the guest still needs it ---------------------------------------------------------------------------
    ({"task": STOP, "shows": [HUNG]}, "done True", ["reboot"], "active"),
    ({"task": STOP, "shows": [SILENT], "servers": [ACTIVE, STOPPED]}, "done False", ["stop"], "stopped"),
    ({"task": STOP, "shows": [WELL]}, "ignored", [], "its fault is over"),
    ({"task": STOP, "shows": [shown("alive", "guest_hung", answered_since_miss=True)]}, "ignored", [], "has answered"),
    ({"task": STOP, "shows": [BOOTS]}, "ignored", [], "booted since"),
    ({"task": STOP, "shows": [shown("alive", "guest_hung")]}, "ignored", [], "is not known"),
    # -- the worker -------------------------------------------------------------------------------------------------
    ({"task": STOP, "shows": ["no worker answers"]}, "ignored", [], "can't be asked: no worker answers"),
    ({"task": STOP, "shows": ["away", "away", HUNG]}, "done True", ["reboot"], "active"),
    ({"task": STOP, "shows": ["away", WELL]}, "ignored", [], "its fault is over"),
    ({"task": STOP, "shows": [7]}, "ignored", [], "makes no sense"),
    ({"task": STOP, "shows": [{}]}, "ignored", [], "no state"),
    ({"task": STOP, "shows": [None]}, "ignored", [], "does not watch it"),
    ({"task": STOP, "shows": [{"error": "bad policy"}]}, "ignored", [], "bad policy"),
    (
        {"task": STOP, "shows": [HUNG, shown("silent", "guest_hung")], "asks": ["conflict"]},
        "ignored",
        ["reboot"],
        "somebody else is at it",
    ),
    # Nobody watches it, and nobody wants it watched: another monitor's report, and Masakari's own way.
    ({"task": STOP, "shows": [None], "servers": [UNWANTED] * 7 + [STOPPED]}, "done False", ["stop"], "stopped"),
    ({"task": STOP, "shows": ["away"], "servers": [UNWANTED]}, "ignored", [], "can't be asked"),
    ({"task": STOP, "shows": [None], "servers": [{"flavor": {}}]}, "ignored", [], "does not watch it"),
    # -- Nova, before anything is done --------------------------------------------------------------------------------
    ({"task": STOP, "servers": [STOPPED]}, "ignored", [], "stopped, task_state None"),
    ({"task": STOP, "servers": [{TASK_STATE: "powering-off"}]}, "ignored", [], "powering-off"),
    ({"task": STOP, "servers": [{"metadata": {}}]}, "skipped", [], "not Ha_Enabled"),
    ({"task": STOP, "servers": [{HOST: None}]}, "ignored", [], "on no host"),
    ({"task": STOP, "servers": [{HOST: "hidden"}]}, "ignored", [], HOST),
    ({"task": STOP, "servers": [{VM_STATE: "hidden"}]}, "ignored", [], VM_STATE),
    ({"task": STOP, "servers": ["masakari"]}, "ignored", [], "Nova can't be asked"),
    ({"task": STOP, "servers": ["not found"]}, "ignored", [], "Nova can't be asked"),
    ({"task": STOP, "servers": ["error"]}, "ignored", [], "a bug"),
    ({"task": STOP, "servers": ["masakari", {}], "shows": [HUNG]}, "done True", ["reboot"], "active"),
    # -- Nova, asked to do it -----------------------------------------------------------------------------------------
    ({"task": STOP, "shows": [HUNG], "asks": ["nova conflict"]}, "ignored", ["reboot"], "somebody else is at it"),
    ({"task": STOP, "shows": [HUNG], "asks": ["nova not found"]}, "ignored", ["reboot"], "no such instance"),
    ({"task": STOP, "shows": [HUNG], "asks": ["gateway"]}, "failed", ["reboot"], "did not take the hard reboot"),
    (
        {"task": STOP, "shows": [HUNG], "asks": ["gateway"], "servers": [{}, {TASK_STATE: "reboot_started_hard"}, {}]},
        *("done True", ["reboot"], "active"),
    ),
    ({"task": STOP, "shows": [HUNG], "servers": [{}, {TASK_STATE: "rebooting_hard"}]}, "failed", ["reboot"], "is not"),
    ({"task": STOP, "shows": [SILENT], "asks": ["masakari"], "servers": [{}, STOPPED]}, "done False", ["stop"], "stop"),
    ({"task": STOP, "shows": [SILENT], "asks": ["forbidden"]}, "failed", ["stop"], "is not stopped"),
    ({"task": STOP, "shows": [SILENT], "servers": [{}, "masakari", STOPPED]}, "done False", ["stop"], "stopped"),
    ({"task": STOP, "shows": [SILENT], "servers": [{}, "masakari"]}, "failed", ["stop"], "Nova can't be asked"),
    # -- Masakari's own -----------------------------------------------------------------------------------------------
    ({"task": STOP, "event": None}, "ignored", [], "its notification can't be read"),
    ({"task": STOP, "event": "LIFECYCLE", "servers": [{}, STOPPED]}, "done False", ["stop"], "Stopped instance"),
    # -- what was stopped is started ----------------------------------------------------------------------------------
    ({"task": START, "servers": [STOPPED]}, "done None", ["start"], "started"),
    ({"task": START, "servers": [STOPPED], "asks": ["masakari", None]}, "done None", ["start", "start"], "started"),
    ({"task": START, "servers": [STOPPED, ACTIVE], "asks": ["masakari"]}, "done None", ["start"], "not started yet"),
    (
        {"task": START, "servers": [STOPPED, {**STOPPED, TASK_STATE: "powering-on"}], "asks": ["masakari"]},
        *("done None", ["start"], "not started yet"),
    ),
    ({"task": START, "servers": ["masakari", STOPPED]}, "done None", ["start"], "started"),
    ({"task": START, "servers": ["masakari"]}, "error: MasakariException", [], "not started yet"),
    ({"task": START, "servers": [ACTIVE]}, "failed", [], "Invalid state"),
    # -- whether it has helped ----------------------------------------------------------------------------------------
    ({"task": CONFIRM, "shows": [WELL]}, "done None", [], "alive"),
    ({"task": CONFIRM, "shows": [BOOTS, "away", BOOTS, WELL]}, "done None", [], "alive"),
    ({"task": CONFIRM, "shows": [BOOTS]}, "failed", [], "waiting"),
    ({"task": CONFIRM, "shows": [HUNG]}, "failed", [], "silent"),
    ({"task": CONFIRM, "shows": [shown("alive", "application_unhealthy")]}, "failed", [], "not well"),
    ({"task": CONFIRM, "shows": ["no worker answers"]}, "ignored", [], "whether it was recovered is not known"),
    ({"task": CONFIRM, "shows": [None]}, "ignored", [], "does not watch it"),
    ({"task": CONFIRM, "shows": [7]}, "ignored", [], "makes no sense"),
    ({"task": CONFIRM, "servers": ["masakari"]}, "ignored", [], "Nova can't be asked"),
    ({"task": CONFIRM, "servers": ["masakari", {}], "shows": [WELL]}, "done None", [], "alive"),
    ({"task": CONFIRM, "servers": [{HOST: None}]}, "ignored", [], "on no host"),
    ({"task": CONFIRM, "servers": [{HOST: "hidden"}]}, "ignored", [], HOST),
    ({"task": CONFIRM, "servers": [UNWANTED], "shows": [None]}, "done None", [], "does not watch it"),
    ({"task": CONFIRM, "servers": [UNWANTED], "shows": ["away"]}, "done None", [], "can't be asked"),
    ({"task": CONFIRM, "servers": [UNWANTED], "shows": [HUNG]}, "failed", [], "silent"),
]


def run(folder: pathlib.Path, cases: list[dict[str, Any]], heartbeat_time: str) -> list[dict[str, Any]]:
    """All of them, in one process."""
    (folder / "masakari.conf").write_text(CONF.format(folder=folder, heartbeat_time=heartbeat_time))
    done = subprocess.run(
        [VENV / "bin/python", "-P", PROGRAM, folder / "masakari.conf"],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Of the whole table."""
    return run(tmp_path_factory.mktemp("outcomes"), [case for case, *_ in OUTCOMES], "1")


def test_an_option_that_makes_no_sense(tmp_path: pathlib.Path) -> None:
    """Its default holds: a misspelt number is no reason to repeat a recovery, or to leave one half done."""
    (found,) = run(tmp_path, [{"task": CONFIRM, "shows": [WELL]}], "soon")
    assert found["ended"] == "done None"


@pytest.mark.parametrize("number", range(len(OUTCOMES)), ids=lambda number: json.dumps(OUTCOMES[number][0])[:90])
def test_how_it_ends(number: int, outcomes: list[dict[str, Any]]) -> None:
    """Failed, which Masakari repeats, is only what Nova was asked for and did not do, or a guest known to be silent."""
    _case, ended, asked, says = OUTCOMES[number]
    found = outcomes[number]
    assert (found["ended"], found["asked"]) == (ended, asked), found
    assert says in found["said"]
