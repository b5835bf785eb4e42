"""Whoever may write to the broker speaks for himself only: on a real RabbitMQ, with one login for all."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.functional.sites import Site
from tests.functional.test_reporting import cleared, new, wait_for
from tests.stage.cloud import Cloud
from tests.stage.control_plane import FaultConsumer
from tests.stage.masakari_stub import consumer_options
from vmhb_common.cmd import keys
from vmhb_common.messaging import sender_keys
from vmhb_common.messaging.sender_keys import LOOK, Own
from vmhb_common.model.fault import Fault
from vmhb_common.objects import parse_fault

pytestmark = pytest.mark.patient


class Keys:
    """Made, trusted and revoked by the command that an operator has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.senders = str(folder / "senders")

    def of(self, name: str) -> Own:
        """A new one, trusted."""
        file = self.folder / f"{name.replace(':', '-')}.key"
        assert keys.run(["make", str(file), name]) == keys.DONE
        line = sender_keys.line_of(name, sender_keys.read_own(file).public)
        assert keys.run(["trust", self.senders, line]) == keys.DONE
        return Own(file, name)

    def revoke(self, name: str) -> None:
        """From some seconds on."""
        assert keys.run(["revoke", self.senders, name]) == keys.DONE


def told(consumer: FaultConsumer, fault: Fault, reporter: str = "recording") -> list[str]:
    """What a reporter was told of this fault."""
    return [
        f"{one['sequence']} {one['change']}" for one in consumer.told(reporter) if one["fault_id"] == fault.fault_id
    ]


def test_a_forged_recovery(site: Site) -> None:
    """As it is after an upgrade, without a key: nobody's healthy guest is recovered on a message, nobody clears
    another host's fault, and true ones go their way."""
    workers, consumer = site.workers("cn1", "cn2"), site.consumer()
    healthy, forged = {"state": "alive", "fault": None}, new(77, host="cn2", cause="qemu_failed")
    workers.shown["cn2"][str(forged.instance_uuid)] = healthy
    workers.publish(forged)
    wait_for(lambda: ("cn2", str(forged.instance_uuid)) in workers.asked)
    real = replace(new(78, host="cn2"), recommended_action="alarm", withheld="evidence", recovery_attempt=0)
    workers.publish(real)
    wait_for(lambda: told(consumer, real) == ["1 raised"])
    workers.publish(replace(cleared(real), host="cn1"))
    again = replace(real, sequence=3, recommended_action="recover", withheld=None, recovery_attempt=1)
    workers.publish(replace(again, occurred_at=datetime.now(timezone.utc)))
    wait_for(lambda: told(consumer, real, "recovering") == ["3 raised"])
    assert told(consumer, real) == ["1 raised", "3 updated"]
    assert told(consumer, forged, "recovering") == []


def test_enforced(site: Site, tmp_path: Path) -> None:
    """Only what the host itself has signed is heard; a key that is revoked is one no more."""
    made = Keys(tmp_path)
    cn1, cn2 = (site.workers(name, own=made.of(f"worker:{name}")) for name in ("cn1", "cn2"))
    stranger, faults = site.workers("cn3"), {"sender_check": "enforce", "senders": made.senders}
    consumer = site.consumer(faults=faults)
    mine, forged, unsigned, answered = new(1), new(2), new(3), new(4, host="cn3")
    cn2.publish(forged, answered)
    stranger.publish(unsigned)
    cn1.publish(mine)
    wait_for(lambda: told(consumer, mine, "recovering") == ["1 raised"])
    cn2.publish(cleared(mine))
    stranger.publish(cleared(mine))
    second = new(5)
    cn1.publish(second)
    wait_for(lambda: told(consumer, second) == ["1 raised"])
    assert told(consumer, mine) == ["1 raised"]
    assert [told(consumer, one) for one in (forged, unsigned, answered)] == [[]] * 3
    made.revoke("worker:cn1")
    time.sleep(LOOK + 0.5)
    third, other = new(6), new(7, host="cn2")
    cn1.publish(third)
    cn2.publish(other)
    wait_for(lambda: told(consumer, other) == ["1 raised"])
    assert told(consumer, third) == []
    wait_for(lambda: consumer.said("is not believed") >= 1, 15)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud(hosts=["cn1", "cn2"]) as one:
        yield one


def test_ghosts_hide_no_true_loss(site: Site, cloud: Cloud) -> None:
    """Three hundred that Nova does not have cost nothing, and are told in a line; the worker that is lost is."""
    workers = site.workers("cn1")
    options: dict[str, Any] = {**consumer_options(cloud), "consumer": {}}
    consumer, began = site.consumer(**options), datetime.now(timezone.utc)
    for host in ("cn1", "cn2"):
        workers.alive(host, began, 1)
    sequences = itertools.count(2)
    silent = time.monotonic()
    while not any(one["cause"] == "worker_lost" for one in consumer.told()):
        assert time.monotonic() - silent < 40
        sequence = next(sequences)
        for number in range(300):
            workers.alive(f"ghost-{number}", began, sequence)
        workers.alive("cn1", began, sequence)
    assert [parse_fault(one).host for one in site.api().active_faults()] == ["cn2"]
    wait_for(lambda: consumer.said("Nova has no nova-compute on these hosts") > 0, 50)
    time.sleep(5)
    assert consumer.said("Nova has no nova-compute on these hosts") == 1
    assert site.api().about()["counts"]["workers"] == 2
