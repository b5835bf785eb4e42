"""What users and operators do to a server on purpose, through Nova's API, from its begin to its end."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.cloud import catalogue
from tests.cloud.stage import Server, Stage
from tests.conftest import Figure

#: Called where the server runs on another node for a while: waits until its guest answers there.
Arrived = Callable[[Server], object]
Deed = Callable[[Stage, Server, Arrived], None]


def _stop(stage: Stage, server: Server, arrived: Arrived) -> None:
    server.do(stage.api.compute.stop_server, then="SHUTOFF")
    server.assert_quiet(server.asked_at)
    server.do(stage.api.compute.start_server, then="ACTIVE")


def _soft_reboot(stage: Stage, server: Server, arrived: Arrived) -> None:
    server.do(stage.api.compute.reboot_server, "SOFT", then="ACTIVE")


def _hard_reboot(stage: Stage, server: Server, arrived: Arrived) -> None:
    server.do(stage.api.compute.reboot_server, "HARD", then="ACTIVE")


def _pause(stage: Stage, server: Server, arrived: Arrived) -> None:
    server.do(stage.api.compute.pause_server, then="PAUSED")
    server.assert_quiet(server.asked_at)
    server.do(stage.api.compute.unpause_server, then="ACTIVE")


def _suspend(stage: Stage, server: Server, arrived: Arrived) -> None:
    server.do(stage.api.compute.suspend_server, then="SUSPENDED")
    server.assert_quiet(server.asked_at)
    server.do(stage.api.compute.resume_server, then="ACTIVE")


def _shelve(stage: Stage, server: Server, arrived: Arrived) -> None:
    server.do(stage.api.compute.shelve_server, then="SHELVED_OFFLOADED")
    server.assert_quiet(server.asked_at)
    server.do(stage.api.compute.unshelve_server, then="ACTIVE")


def _rebuild(stage: Stage, server: Server, arrived: Arrived) -> None:
    image = stage.api.image.find_image(catalogue.PLAIN).id
    server.do(lambda uuid: stage.api.compute.rebuild_server(uuid, image=image), then="ACTIVE")


def _resize(stage: Stage, server: Server, arrived: Arrived) -> None:
    flavor = stage.api.compute.find_flavor("monitored-large").id
    before = server.node
    server.do(stage.api.compute.resize_server, flavor, then="VERIFY_RESIZE")
    assert server.node != before
    arrived(server)


def _resize_confirm(stage: Stage, server: Server, arrived: Arrived) -> None:
    _resize(stage, server, arrived)
    server.do(stage.api.compute.confirm_server_resize, then="ACTIVE")


def _resize_revert(stage: Stage, server: Server, arrived: Arrived) -> None:
    before = server.node
    _resize(stage, server, arrived)
    server.do(stage.api.compute.revert_server_resize, then="ACTIVE")
    assert server.node == before


def _rescue(stage: Stage, server: Server, arrived: Arrived) -> None:
    server.do(stage.api.compute.rescue_server, then="RESCUE")
    server.assert_quiet(server.asked_at)
    server.do(stage.api.compute.unrescue_server, then="ACTIVE")


def _snapshot(stage: Stage, server: Server, arrived: Arrived) -> None:
    image = stage.api.compute.create_server_image(server.uuid, f"snapshot-of-{server.name}", wait=True)
    server.wait("ACTIVE")
    stage.api.image.delete_image(image.id)


def _there_and_back(stage: Stage, server: Server, arrived: Arrived) -> None:
    for node in ("node2", "node1"):
        server.do(lambda uuid, to=node: stage.api.compute.live_migrate_server(uuid, host=to), then="ACTIVE")
        assert server.node == node
        arrived(server)


DEEDS: dict[str, Deed] = {
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


def do_unnoticed(stage: Stage, server: Server, deed: str, figure: Figure, about: str) -> None:
    """Do it to a server that beats. No fault meanwhile, no matter how long it takes, nor afterwards; and it beats
    wherever it runs then. about: what the figures are called."""
    began = time.monotonic()
    DEEDS[deed](stage, server, Server.wait_beats)
    done = time.monotonic()
    again = server.wait_beats()
    figure(f"{about}: done", done - began, "s")
    figure(f"{about}: done → beats", max(0.0, again - done), "s")
    server.assert_quiet(began)
    assert server.beats(), server.show()
