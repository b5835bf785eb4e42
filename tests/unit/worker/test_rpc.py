"""RPC: what a caller may send, what comes of it, and that the broker's absence holds nobody up."""

from __future__ import annotations

import queue
import time
import typing
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from oslo_config import cfg

from tests.fakes import CalledEngine
from vmhb_common import worker_api
from vmhb_common.conf import upgrade_levels
from vmhb_common.messaging.no_eventlet import without_eventlet
from vmhb_common.model.policy import MAX_KNOBS
from vmhb_common.worker_api import InvalidArgument, WorkerAPI, WorkerBusy, WorkerFailed
from vmhb_worker.adapters.rpc_server import Endpoint, Server
from vmhb_worker.core.questions import Asked, Configure, EndSilence, ExpectSilence, List, Question, ReleaseBrake, Show

with without_eventlet():
    import oslo_messaging

UUID = "5c1a1b5e-9ce2-4e0f-8f0c-3c0d0a4f7d11"
NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
GOOD = {
    "instance_uuid": UUID,
    "key": "nova:power_off",
    "reason": "being stopped",
    "timeout": 60,
    "observed_at": "2026-01-31T12:00:00Z",
}


@pytest.fixture
def conf() -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[], default_config_dirs=[])
    return conf


@pytest.fixture
def connect(conf: cfg.ConfigOpts) -> Iterator[Callable[[CalledEngine, str], WorkerAPI]]:
    """connect(engine, host): a worker's server, in this process, and a client of it."""
    servers = []

    def start(engine: CalledEngine, host: str) -> WorkerAPI:
        transport = worker_api.get_transport(conf, "fake://")
        server = Server(transport, host, engine)
        servers.append(server)
        server.start()
        assert server.listening.wait(10)
        return WorkerAPI(transport, conf)

    yield start
    for server in servers:
        server.stop()


def test_calls_arrive_and_are_answered(connect: Callable[[CalledEngine, str], WorkerAPI]) -> None:
    """What the engine answers is what the caller gets, by the host that was asked."""
    here, there = CalledEngine(list=[{"uuid": UUID}], show={"state": "alive"}), CalledEngine(list=[])
    api = connect(here, "here")
    connect(there, "there")
    assert api.list("here") == [{"uuid": UUID}]
    assert api.list("there") == []
    assert api.show("here", UUID.upper()) == {"state": "alive"}
    assert api.show("there", UUID) is None
    assert here.calls == [List(), Show(UUID)]


def test_casts_arrive(connect: Callable[[CalledEngine, str], WorkerAPI]) -> None:
    """A silence arrives with its time as a time, whatever zone it was told in."""
    engine = CalledEngine()
    api = connect(engine, "casts")
    east = NOON.astimezone(timezone(timedelta(hours=9)))
    api.expect_silence("casts", UUID, key="nova:stop", reason="being stopped", timeout=60.0, observed_at=east)
    assert engine.called.wait(10)
    assert engine.calls == [ExpectSilence(UUID, "nova:stop", "being stopped", 60.0, NOON)]
    engine.called.clear()
    api.end_silence("casts", UUID, key="nova:stop", observed_at=NOON)
    assert engine.called.wait(10)
    assert engine.calls[1:] == [EndSilence(UUID, "nova:stop", NOON)]


def test_the_brake_is_released(connect: Callable[[CalledEngine, str], WorkerAPI]) -> None:
    """Since 1.2: with the reason; whether it was on is the answer. Without a reason it is refused."""
    engine = CalledEngine(release_brake=True)
    api = connect(engine, "braked")
    assert api.release_brake("braked", "the storage is back") is True
    assert engine.calls == [ReleaseBrake("the storage is back")]
    with pytest.raises(InvalidArgument, match="reason is ' '"):
        api.release_brake("braked", " ")


@pytest.mark.parametrize(
    ("raised", "arrives"), [(TimeoutError(), WorkerBusy), (KeyError("secret"), WorkerFailed)], ids=["busy", "failed"]
)
def test_errors_arrive_as_themselves(
    connect: Callable[[CalledEngine, str], WorkerAPI], raised: Exception, arrives: type[Exception]
) -> None:
    """A caller learns what kind of trouble it is, and nothing of the worker's inside."""
    api = connect(CalledEngine(show=raised), f"errors-{arrives.__name__}")
    with pytest.raises(arrives) as caught:
        api.show(f"errors-{arrives.__name__}", UUID)
    assert "secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_bad_argument_is_told_to_the_caller(connect: Callable[[CalledEngine, str], WorkerAPI]) -> None:
    """Who calls with nonsense is told what was wrong, and the engine never sees it."""
    engine = CalledEngine()
    api = connect(engine, "bad")
    with pytest.raises(InvalidArgument, match="instance_uuid is 'vm-1': say a uuid"):
        api.show("bad", "vm-1")
    assert not engine.calls


def test_good_arguments_are_normalised() -> None:
    """The engine gets one form of each value, and no control characters."""
    engine = CalledEngine()
    arguments = {**GOOD, "reason": "a\nb\x1b[1m", "observed_at": "2026-01-31T12:00:00"}
    Endpoint(engine).expect_silence({}, **arguments)
    (asked,) = engine.calls
    assert isinstance(asked, ExpectSilence)
    assert asked.reason == "a b [1m"
    assert asked.observed_at == NOON, "a time without a zone is in UTC, as Nova's are"
    assert (asked.timeout, type(asked.timeout)) == (60.0, float)


def test_a_silence_that_is_too_long_is_not_refused() -> None:
    """None at all would be worse: how much of it is granted, the engine says."""
    engine = CalledEngine()
    Endpoint(engine).expect_silence({}, **{**GOOD, "timeout": 31 * 86400})
    assert [asked.timeout for asked in engine.calls if isinstance(asked, ExpectSilence)] == [31 * 86400.0]


@pytest.mark.parametrize("kind", typing.get_args(Asked), ids=lambda kind: kind.method)
def test_each_method_asks_its_own_question(kind: type[Question[Any]]) -> None:
    """What a method of the contract is called with reaches the engine as the question of that name."""
    engine = CalledEngine(**{kind.method: "answered"})
    named = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    arguments = {name: value for name, value in {**GOOD, "policy": {}}.items() if name in named}
    assert getattr(Endpoint(engine), kind.method)({}, **arguments) == "answered"
    assert [type(asked) for asked in engine.calls] == [kind]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("instance_uuid", value) for value in (None, 7, "", "vm-1", f"{{{UUID}}}", UUID.replace("-", ""), [UUID])),
        *(("key", value) for value in (None, "", "  ", 129 * "k", 7, ["k"])),
        *(("reason", value) for value in (None, "", 256 * "r", {"a": 1})),
        *(("timeout", value) for value in (None, 0, -1, 1e9 + 1, True, "60", float("nan"), float("inf"), 10**400)),
        *(
            ("observed_at", value)
            for value in (None, "", "noon", 1738324800, "2026-02-30T00:00:00", "0001-01-01T00:00+14:00")
        ),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(name: str, value: Any) -> None:
    """Nothing that a caller sends can crash the worker, or reach the engine unchecked."""
    engine = CalledEngine()
    with pytest.raises(oslo_messaging.ExpectedException) as caught:
        Endpoint(engine).expect_silence({}, **{**GOOD, name: value})
    kind, error, _trace = caught.value.exc_info
    assert kind is InvalidArgument
    assert str(error).startswith(f"{name} is ")
    assert len(str(error)) < 250
    assert not engine.calls


def test_a_policy_arrives_as_it_was_sent(connect: Callable[[CalledEngine, str], WorkerAPI]) -> None:
    """Knobs that this worker does not know are a newer consumer's; what makes no sense is for the engine to say."""
    engine = CalledEngine()
    policy = {"heartbeat": "true", "interval": "soon", "colour": "ble\u00fc", "threshold": ""}
    connect(engine, "policy").configure("policy", UUID, policy)
    assert engine.called.wait(10)
    assert engine.calls == [Configure(UUID, policy)]


def test_a_policy_arrives_with_its_time(connect: Callable[[CalledEngine, str], WorkerAPI]) -> None:
    """Since 1.1. Who does not say it is understood as well."""
    engine = CalledEngine()
    api = connect(engine, "timed")
    api.configure("timed", UUID, {"interval": "2"}, observed_at=NOON.astimezone(timezone(timedelta(hours=9))))
    assert engine.called.wait(10)
    assert engine.calls == [Configure(UUID, {"interval": "2"}, NOON)]
    engine.called.clear()
    api.configure("timed", UUID, {"interval": "2"})
    assert engine.called.wait(10)
    assert engine.calls[1:] == [Configure(UUID, {"interval": "2"})]


@pytest.mark.parametrize("when", ["", "noon", 1738324800, {"a": 1}], ids=str)
def test_a_policy_of_no_time_is_refused(when: Any) -> None:
    """As with silences: an error names it, the engine never sees it."""
    engine = CalledEngine()
    with pytest.raises(oslo_messaging.ExpectedException) as caught:
        Endpoint(engine).configure({}, instance_uuid=UUID, policy={}, observed_at=when)
    assert str(caught.value.exc_info[1]).startswith("observed_at is ")
    assert not engine.calls


class OldEndpoint:
    """Of a worker that speaks 1.0 only."""

    target = oslo_messaging.Target(version="1.0")

    def __init__(self) -> None:
        self.asked: queue.Queue[dict[str, Any]] = queue.Queue()

    def configure(self, _context: dict[str, Any], *, instance_uuid: str, policy: dict[str, str]) -> None:
        """As it was."""
        self.asked.put({"instance_uuid": instance_uuid, "policy": policy})

    def list(self, _context: dict[str, Any]) -> Any:
        """As it is."""
        return [{"host": "old"}]


@pytest.mark.parametrize("cap", [None, "1.0"])
def test_a_worker_that_is_older(conf: cfg.ConfigOpts, cap: str | None) -> None:
    """Calls that it knows reach it as they are; with [upgrade_levels] so does a policy, without its time."""
    upgrade_levels.register(conf)
    conf.set_override("vmhb_worker", cap, group="upgrade_levels")
    transport, endpoint, host = worker_api.get_transport(conf, "fake://"), OldEndpoint(), f"old-{cap}"
    target = oslo_messaging.Target(exchange=worker_api.EXCHANGE, topic=worker_api.TOPIC, server=host)
    server = oslo_messaging.get_rpc_server(transport, target, [endpoint])
    server.start()
    try:
        api = WorkerAPI(transport, conf)
        assert api.list(host) == [{"host": "old"}]
        api.configure(host, UUID, {"interval": "2"}, observed_at=NOON)
        api.configure(host, UUID, {"interval": "3"})
        intervals = ["3"] if cap is None else ["2", "3"]
        assert sorted(endpoint.asked.get(timeout=10)["policy"]["interval"] for _ in intervals) == intervals
    finally:
        server.stop()
        server.wait()


def test_text_of_a_policy_is_made_fit_for_xml() -> None:
    """What the broker carries may be no character at all."""
    engine = CalledEngine()
    Endpoint(engine).configure({}, instance_uuid=UUID, policy={"a": "x\x00\ud800\uffff\n\x1by"})
    assert engine.calls == [Configure(UUID, {"a": "x     y"})]


@pytest.mark.parametrize(
    "policy",
    [
        *(None, "interval=1", ["interval"], 7, {"interval": 1}, {"interval": None}, {"interval": {"a": "b"}}),
        *({7: "1"}, {"": "1"}, {"k" * 256: "1"}, {"interval": "1" * 256}, {f"k{n}": "1" for n in range(MAX_KNOBS + 1)}),
    ],
    ids=lambda policy: str(policy)[:20],
)
def test_a_policy_of_another_shape_is_refused(policy: Any) -> None:
    """Bounded in number and size, and texts by name: nothing else gets to the engine."""
    engine = CalledEngine()
    with pytest.raises(oslo_messaging.ExpectedException) as caught:
        Endpoint(engine).configure({}, instance_uuid=UUID, policy=policy)
    kind, error, _trace = caught.value.exc_info
    assert kind is InvalidArgument
    assert str(error).startswith("policy ")
    assert len(str(error)) < 300
    assert not engine.calls


def test_a_newer_call_is_refused_by_the_version_cap(conf: cfg.ConfigOpts) -> None:
    """While workers are being upgraded, [upgrade_levels] keeps a client from calls that old ones do not know."""
    transport = worker_api.get_transport(conf, "fake://")
    upgrade_levels.register(conf)
    conf.set_override("vmhb_worker", "0.9", group="upgrade_levels")
    with pytest.raises(oslo_messaging.RPCVersionCapError):
        WorkerAPI(transport, conf).list("here")


@pytest.mark.parametrize("cap", ["queens", "1", "1.x", ""])
def test_a_version_cap_that_is_none_is_refused(conf: cfg.ConfigOpts, cap: str) -> None:
    """By --check-config, and at the start: not call by call."""
    upgrade_levels.register(conf)
    with pytest.raises(ValueError, match=r"say a version, such as 1\.0"):
        conf.set_override("vmhb_worker", cap, group="upgrade_levels")


def test_without_a_broker_start_and_stop_return_at_once(conf: cfg.ConfigOpts) -> None:
    """A worker whose broker is away starts, monitors, and stops in time."""
    server = Server(worker_api.get_transport(conf, "rabbit://guest:guest@127.0.0.1:1/"), "alone", CalledEngine())
    began = time.monotonic()
    server.start()
    server.stop(timeout=0.2)
    assert time.monotonic() - began < 2.0
    assert not server.listening.is_set()


def test_stopping_twice_or_before_the_start_is_fine(conf: cfg.ConfigOpts) -> None:
    """The order in which things end is nobody's concern."""
    server = Server(worker_api.get_transport(conf, "fake://"), "twice", CalledEngine())
    server.stop()
    server.start()
    server.stop()
    assert not server.listening.is_set()
