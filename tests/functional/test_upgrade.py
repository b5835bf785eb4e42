"""An upgrade, one process at a time: a worker and a consumer of the release before and of this one, on a real RabbitMQ.

Both ways round, since compute nodes and controllers are upgraded in either order, and for days both are there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import pytest

from tests.lab.broker import Broker
from tests.lab.processes import wait_until
from tests.stage.control_plane import Nova
from tests.stage.nova import notification
from tests.stage.releases import GUEST, NOW, Caller, CallFailed, Release, ReleasedConsumer, ReleasedWorker, before
from tools.lib import prepare

pytestmark = pytest.mark.patient

HOST = "cn1"
#: A fault is raised within threshold x interval + timeout, and named once the host was asked about it.
SOON = 60


@pytest.fixture(scope="module")
def releases() -> dict[str, Release]:
    """Both of them, by name."""
    if problem := prepare.unavailable(prepare.BEFORE):
        pytest.skip(problem)
    return {release.name: release for release in (before(), NOW)}


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """Of all tests here; each has a virtual host of its own."""
    with Broker() as one:
        yield one


@dataclass
class Cloud:
    """One virtual host, a worker and a consumer in it, and a caller of the release that the worker is not of."""

    folder: Path
    url: str
    releases: dict[str, Release]
    worker: ReleasedWorker = field(init=False)
    consumer: ReleasedConsumer = field(init=False)
    caller: Caller = field(init=False)

    def start(self, worker: str, consumer: str) -> None:
        """Both, of these releases."""
        self.worker = ReleasedWorker(self.releases[worker], self.folder / "worker", self.url, HOST)
        self.consumer = ReleasedConsumer(self.releases[consumer], self.folder / "consumer", self.url)
        self.caller = Caller(self.releases[consumer], self.url)
        self.consumer.start()
        self.worker.start()
        wait_until(lambda: self.consumer.said("reading faults from") > 0, 30, "the consumer reads faults")
        wait_until(lambda: self.consumer.said("listening to") > 0, 30, "the consumer listens to Nova")
        wait_until(lambda: self.worker.show(GUEST).get("state") == "alive", 30, "the guest answers")

    def stop(self) -> None:
        """End both."""
        for one in (self.worker, self.consumer):
            one.stop()

    def wait_hung(self) -> None:
        """The guest's kernel dies; until the consumer's reporter was told that it is to be recovered."""
        self.worker.wait_known(GUEST)
        self.worker.panic()
        wait_until(lambda: self.consumer.told()[-1:] == ["updated guest_hung, recover"], SOON, "the reporter is told")


@pytest.fixture
def cloud(
    releases: dict[str, Release], broker: Broker, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Cloud]:
    """A virtual host of its own; what was started there ends with the test."""
    vhost = re.sub(r"\W", "-", request.node.name)
    permissions = [{"user": broker.user, "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"}]
    definitions = tmp_path / "vhost.json"
    definitions.write_text(json.dumps({"vhosts": [{"name": vhost}], "permissions": permissions}))
    broker.ctl("import_definitions", str(definitions))
    url = f"{broker.transport_url.rpartition('/')[0]}/{vhost}?amqp_durable_queues=true"
    one = Cloud(tmp_path, url, releases)
    yield one
    one.stop()


def both_ways(test: Callable[..., None]) -> Callable[..., None]:
    """The worker of the release before with the consumer of this one, and the other way round."""
    ways = [("before", "now"), ("now", "before")]
    decorated: Callable[..., None] = pytest.mark.parametrize(
        ("worker", "consumer"), ways, ids=[f"worker-{worker}" for worker, _ in ways]
    )(test)
    return decorated


@both_ways
def test_faults_reach_the_others_reporter(cloud: Cloud, worker: str, consumer: str) -> None:
    """What one release's worker raises, updates and clears is told by the other's consumer, and known when asked."""
    cloud.start(worker, consumer)
    cloud.wait_hung()
    assert cloud.consumer.told()[0] == "raised guest_silent, alarm"
    (fault,) = cloud.caller.call("", "active_faults")
    assert fault["vmhb_object.data"]["instance_uuid"] == GUEST
    assert cloud.caller.call("", "about")["counts"]
    cloud.worker.revive()
    wait_until(lambda: cloud.consumer.told()[-1] == "cleared guest_hung, none", SOON, "the reporter hears of its end")
    assert cloud.caller.call("", "active_faults") == []


@both_ways
def test_a_worker_is_asked_by_the_other(cloud: Cloud, worker: str, consumer: str) -> None:
    """list, show, configure, expect_silence and end_silence mean the same to both; so does what Nova plans."""
    cloud.start(worker, consumer)
    assert [row["instance_uuid"] for row in cloud.caller.call(HOST, "list")] == [GUEST]
    assert cloud.caller.call(HOST, "show", instance_uuid=GUEST)["state"] == "alive"
    now = datetime.now(timezone.utc).isoformat()
    silence = {"instance_uuid": GUEST, "key": "test", "observed_at": now}
    cloud.caller.call(HOST, "expect_silence", **silence, reason="being tried", timeout=600)
    wait_until(lambda: _silences(cloud) == {"hint:test"}, 10, "it expects the silence")
    cloud.caller.call(HOST, "end_silence", **{**silence, "observed_at": datetime.now(timezone.utc).isoformat()})
    wait_until(lambda: _silences(cloud) == set(), 10, "the silence is over")
    cloud.caller.call(HOST, "configure", instance_uuid=GUEST, policy={"interval": "1"}, observed_at=now)
    Nova(cloud.url).publish(
        notification(
            "power_off", "start", publisher=f"nova-compute:{HOST}", at=datetime.now(timezone.utc), uuid=GUEST, host=HOST
        )
    )
    wait_until(lambda: _silences(cloud) == {"hint:power_off"}, 10, "the consumer tells it what Nova does")


def _silences(cloud: Cloud) -> set[str]:
    return set(cloud.worker.show(GUEST)["silences"])


@both_ways
def test_errors_arrive_as_what_they_are(cloud: Cloud, worker: str, consumer: str) -> None:
    """What a worker refuses, or cannot do, is one of three errors; the caller's own release knows each by its class."""
    cloud.start(worker, consumer)
    with pytest.raises(CallFailed, match=r"^InvalidArgument: instance_uuid is 'nonsense': say a uuid"):
        cloud.caller.call(HOST, "show", instance_uuid="nonsense")
    with pytest.raises(CallFailed, match=r"^WorkerBusy: show: no answer within"):
        cloud.caller.call(f"{HOST}-broken", "show", instance_uuid=GUEST)
    with pytest.raises(CallFailed, match=r"^WorkerFailed: list: an error of the worker's own"):
        cloud.caller.call(f"{HOST}-broken", "list")


def test_what_was_kept_is_read_by_the_next(cloud: Cloud) -> None:
    """An open fault outlives the upgrade of both: the same one is cleared afterwards, and none is raised anew."""
    cloud.start("before", "before")
    cloud.wait_hung()
    (fault,) = cloud.caller.call("", "active_faults")
    cloud.stop()
    for one in (cloud.worker, cloud.consumer):
        one.become(cloud.releases["now"])
        one.start()
    wait_until(lambda: cloud.consumer.told()[-1].startswith("cleared"), SOON, "the guest answers, and that is said")
    assert cloud.consumer.said(f"fault {fault['vmhb_object.data']['fault_id']}") == len(cloud.consumer.told())
