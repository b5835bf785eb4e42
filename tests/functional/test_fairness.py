"""One tenant's silent guests do not stand in the way of another's: who waits, and for how long.

A real consumer on SQLite and a RabbitMQ; what workers would tell is published as they do, and Masakari never comes to
an end with what it is told first. With Masakari's own engine and its stock tasks: a figure.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from tests.conftest import Figure
from tests.fakes import a_fault
from tests.functional.sites import Site
from tests.lab.processes import wait_until
from tests.stage.control_plane import FaultWorkers
from tests.stage.masakari import VENV, Masakari
from tests.stage.masakari_stub import MasakariStub, consumer_options
from vmhb_common.model.fault import Fault

pytestmark = pytest.mark.patient

SILENT = 10
#: Another tenant's dead machine is recovered within (seconds).
WITHIN = 30.0
#: Nothing more is asked for, once nothing was for so long (seconds): who is held asks again after 10.
SETTLED = 12.0


@pytest.fixture
def stub() -> Iterator[MasakariStub]:
    """It says `running` of whatever it is told, for ever."""
    with MasakariStub() as one:
        yield one


def fault(host: str, project: str, cause: str, instance: str) -> Fault:
    """It is raised now, and asks for a recovery."""
    now = datetime.now(timezone.utc).replace(microsecond=0)
    return a_fault(
        str(uuid.uuid4()),
        **{"host": host, "instance_uuid": instance, "project_id": project, "cause": cause},
        **{"recommended_action": "recover", "withheld": None, "recovery_attempt": 1},
        **dict.fromkeys(("occurred_at", "raised_at", "suspected_at", "last_ack_at"), now),
    )


def publish(workers: FaultWorkers, told: Fault) -> None:
    """As its worker does, which says the same when it is asked."""
    shown: dict[str, Any] = {
        "instance_uuid": told.instance_uuid,
        "state": "gone" if told.cause == "qemu_failed" else "silent",
        "answered_since_miss": False,
        "fault": {"fault_id": told.fault_id, "cause": told.cause},
    }
    workers.shown[told.host][str(told.instance_uuid)] = shown
    workers.publish(told)


def settled(stub: MasakariStub, timeout: float = 60.0) -> int:
    """Until no more comes; how many came."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        last = max((one.at for one in stub.posted()), default=time.monotonic() - SETTLED + 3.0)
        if time.monotonic() - last > SETTLED:
            break
        time.sleep(0.2)
    return len(stub.posted())


@pytest.mark.parametrize("hosts", [1, SILENT])
def test_ten_silent_guests_of_one_tenant_hold_up_no_other(
    hosts: int, site: Site, stub: MasakariStub, figure: Figure
) -> None:
    """Ten of one project hold what places they get, for ever, on one host or on ten. Then another project's QEMU dies,
    on another host: Masakari is told in time."""
    names = [f"cn{number}" for number in range(hosts)]
    workers = site.workers(*names, "other")
    site.consumer(**stub.options())
    for number in range(SILENT):
        host = names[number % hosts]
        publish(workers, fault(host, "loud", "guest_silent", stub.cloud.server(host=host, project_id="loud").uuid))
    wait_until(lambda: bool(stub.posted()), 30, "the first is told")
    where = f"ten silent guests on {hosts} host{'s' if hosts > 1 else ''}"
    figure(f"{where}: places that they hold", settled(stub), "")

    one = stub.cloud.server(host="other", project_id="quiet")
    began = time.monotonic()
    publish(workers, fault("other", "quiet", "qemu_failed", one.uuid))
    posted = stub.wait(one.uuid, 2 * WITHIN)
    assert posted is not None, f"not within {2 * WITHIN:g} s"
    figure(f"{where}: another's qemu_failed until Masakari is told", posted.at - began, "s", WITHIN)
    assert len(stub.posted(one.uuid)) == 1


@pytest.mark.long
@pytest.mark.skipif(not VENV.exists(), reason="there is no Masakari")
def test_on_the_same_host_masakaris_stock_tasks_take_their_time(site: Site, figure: Figure) -> None:
    """No bound, a figure: its engine recovers one host's instances one after the other, and gives each that hangs a
    minute to shut down. Of how many that is, the reporter decides: it tells of one at a time."""
    with Masakari() as masakari:
        cloud = masakari.cloud
        workers = site.workers("cpt1")
        site.consumer(**consumer_options(cloud))
        silent = [cloud.server(project_id="loud", shutdown_time=60.0) for _ in range(SILENT)]
        for one in silent:
            publish(workers, fault("cpt1", "loud", "guest_silent", one.uuid))
        wait_until(lambda: any(one.asked for one in silent), 60, "the engine begins")
        dead = cloud.server(project_id="quiet", shutdown_time=0.0)
        began = time.monotonic()
        publish(workers, fault("cpt1", "quiet", "qemu_failed", dead.uuid))
        wait_until(lambda: bool(masakari.notifications(dead.uuid)), 900, "Masakari is told", every=0.5)
        figure(
            "stock tasks, the same host: another's qemu_failed until Masakari is told", time.monotonic() - began, "s"
        )
        wait_until(lambda: "os-start" in dead.done, 1200, "the engine has started it", every=0.5)
        figure("stock tasks, the same host: another's qemu_failed until it is started", time.monotonic() - began, "s")
