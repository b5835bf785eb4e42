"""What users and operators do to a server on purpose: no fault, nothing recovered, and heartbeats again afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.cloud import catalogue
from tests.cloud.conftest import Boot
from tests.cloud.stage import QUIET, Server, Stage
from tests.conftest import Figure

pytestmark = pytest.mark.long


def _stop(stage: Stage, server: Server) -> None:
    server.do(stage.api.compute.stop_server, then="SHUTOFF")
    server.assert_quiet(server.asked_at)
    server.do(stage.api.compute.start_server, then="ACTIVE")


def _soft_reboot(stage: Stage, server: Server) -> None:
    server.do(stage.api.compute.reboot_server, "SOFT", then="ACTIVE")


def _hard_reboot(stage: Stage, server: Server) -> None:
    server.do(stage.api.compute.reboot_server, "HARD", then="ACTIVE")


def _pause(stage: Stage, server: Server) -> None:
    server.do(stage.api.compute.pause_server, then="PAUSED")
    server.assert_quiet(server.asked_at)
    server.do(stage.api.compute.unpause_server, then="ACTIVE")


def _suspend(stage: Stage, server: Server) -> None:
    server.do(stage.api.compute.suspend_server, then="SUSPENDED")
    server.assert_quiet(server.asked_at)
    server.do(stage.api.compute.resume_server, then="ACTIVE")


def _shelve(stage: Stage, server: Server) -> None:
    server.do(stage.api.compute.shelve_server, then="SHELVED_OFFLOADED")
    server.assert_quiet(server.asked_at)
    server.do(stage.api.compute.unshelve_server, then="ACTIVE")


def _rebuild(stage: Stage, server: Server) -> None:
    image = stage.api.image.find_image(catalogue.PLAIN).id
    server.do(lambda uuid: stage.api.compute.rebuild_server(uuid, image=image), then="ACTIVE")


def _resize(stage: Stage, server: Server) -> None:
    flavor = stage.api.compute.find_flavor("monitored-large").id
    before = server.node
    server.do(stage.api.compute.resize_server, flavor, then="VERIFY_RESIZE")
    assert server.node != before
    server.wait_beats()


def _resize_confirm(stage: Stage, server: Server) -> None:
    _resize(stage, server)
    server.do(stage.api.compute.confirm_server_resize, then="ACTIVE")


def _resize_revert(stage: Stage, server: Server) -> None:
    before = server.node
    _resize(stage, server)
    server.do(stage.api.compute.revert_server_resize, then="ACTIVE")
    assert server.node == before


def _rescue(stage: Stage, server: Server) -> None:
    server.do(stage.api.compute.rescue_server, then="RESCUE")
    server.assert_quiet(server.asked_at)
    server.do(stage.api.compute.unrescue_server, then="ACTIVE")


def _snapshot(stage: Stage, server: Server) -> None:
    image = stage.api.compute.create_server_image(server.uuid, f"snapshot-of-{server.name}", wait=True)
    server.wait("ACTIVE")
    stage.api.image.delete_image(image.id)


def _there_and_back(stage: Stage, server: Server) -> None:
    for node in ("node2", "node1"):
        server.do(lambda uuid, to=node: stage.api.compute.live_migrate_server(uuid, host=to), then="ACTIVE")
        assert server.node == node
        server.wait_beats()


DEEDS: dict[str, Callable[[Stage, Server], None]] = {
    "stop, start": _stop,
    "soft reboot": _soft_reboot,
    "hard reboot": _hard_reboot,
    "pause, unpause": _pause,
    "suspend, resume": _suspend,
    "shelve, unshelve": _shelve,
    "rebuild": _rebuild,
    "resize, confirm": _resize_confirm,
    "resize, revert": _resize_revert,
    "rescue, unrescue": _rescue,
    "snapshot": _snapshot,
    "live migration there and back": _there_and_back,
}


@pytest.mark.parametrize("deed", DEEDS)
def test_planned(stage: Stage, boot: Boot, figure: Figure, deed: str) -> None:
    """No fault while it is done, no matter how long, nor afterwards; and it beats wherever it runs then."""
    server = boot("monitored")
    server.wait_beats()
    began = time.monotonic()
    DEEDS[deed](stage, server)
    done = time.monotonic()
    again = server.wait_beats()
    figure(f"cloud: {deed}: done", done - began, "s")
    figure(f"cloud: {deed}: done → beats", max(0.0, again - done), "s")
    server.assert_quiet(began)
    assert server.beats(), server.show()


def test_deleted(stage: Stage, boot: Boot) -> None:
    """Nothing is said of it, and its worker expects no more of it."""
    server = boot("monitored")
    server.wait_beats()
    node, began = server.node, time.monotonic()
    server.delete()
    time.sleep(QUIET)
    assert server.faults(began) == []
    shown = stage.workers.show(node, server.uuid) or {}
    assert shown.get("state") in (None, "gone")  # remembered for a while, in case it was a migration
