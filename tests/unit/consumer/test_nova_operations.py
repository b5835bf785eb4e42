"""What is done about which event: the table, held against Nova's own list, and against what was recorded of it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.stage.nova import NOON, UUID, Message, notification, sample, samples
from vmhb_common.model.silences import MAX_SILENCE
from vmhb_common.worker_api import MAX_REASON
from vmhb_consumer.nova_notification import parse
from vmhb_consumer.nova_operations import (
    PLANNED,
    ROWS,
    TIMEOUTS,
    Cast,
    Configure,
    EndSilence,
    ExpectSilence,
    Operation,
    Verb,
    concerns,
    decide,
)
from vmhb_worker.adapters.rpc_server import MAX_KEY

#: Nova 34: the actions of the samples named in nova/notifications/objects/instance.py.
NOVAS = """
    create delete evacuate exists interface_attach interface_detach live_migration_abort
    live_migration_force_complete live_migration_post live_migration_post_dest live_migration_pre
    live_migration_rollback live_migration_rollback_dest lock pause power_off power_on reboot rebuild
    rebuild_scheduled rescue resize resize_confirm resize_finish resize_prep resize_revert restore resume
    share_attach share_detach shelve shelve_offload shutdown snapshot soft_delete suspend trigger_crash_dump unlock
    unpause unrescue unshelve update volume_attach volume_detach volume_swap
"""

ALL = frozenset(itertools.product(ROWS, ("", "start", "end", "error", "progress")))


def told(*messages: Message) -> list[str]:
    """What is decided, one line a cast."""
    return [line(cast) for message in messages for cast in decide(parse(*message.arguments))]


def line(cast: Cast) -> str:
    match cast:
        case Configure():
            return f"{cast.host}: configure"
        case ExpectSilence():
            return f"{cast.host}: expect {cast.key}"
        case EndSilence():
            return f"{cast.host}: end {cast.key}"


def test_the_table_is_total() -> None:
    """Every action that Nova knows has a row; a new one of Nova's is to be thought about."""
    assert set(ROWS) == set(NOVAS.split())
    assert set(PLANNED) == set(Operation)


def test_every_silence_begins_ends_and_fits() -> None:
    """One that is never ended but by its time-out is meant so; none is longer than a worker takes."""
    steps = [step for row in ROWS.values() for phase in row.values() for step in phase]
    begun = {operation for verb, operation in steps if verb is Verb.EXPECT}
    ended = {operation for verb, operation in steps if verb is Verb.END}
    assert begun == set(Operation)
    assert begun - ended == {Operation.CRASH_DUMP}
    for operation, planned in PLANNED.items():
        assert 0 < planned.timeout <= MAX_SILENCE
        assert len(planned.reason) <= MAX_REASON
        assert len(f"{operation}:{'x' * 100}") <= MAX_KEY


def test_end_and_error_end_what_start_began() -> None:
    """Whatever an operation comes to, the silence that it brought is over."""
    for action, row in ROWS.items():
        for verb, operation in row.get("start", ()):
            if verb is Verb.EXPECT and operation not in (Operation.CRASH_DUMP, Operation.LIVE_MIGRATION):
                assert (Verb.END, operation) in row["end"], action
                assert (Verb.END, operation) in row["error"], action


@pytest.mark.parametrize(("action", "phase"), sorted(ALL))
def test_any_event_can_be_decided(action: str, phase: str) -> None:
    """Every action, with every phase, brings what its row says, and `concerns` tells beforehand."""
    message = notification(action, phase)
    lines = told(message)
    assert bool(lines) == concerns(message.event_type)
    assert lines == told(message), "no state is kept"


def test_samples_bring_nothing_without_an_opt_in() -> None:
    """The recorded cloud's flavors asked for nothing: no worker is told anything."""
    for one in samples():
        if one.event_type.startswith("instance."):
            assert told(one) == []


@pytest.mark.parametrize(
    ("value", "asks"),
    [("true", True), ("Yes", True), ("1", True), ("false", False), ("0", False), ("perhaps", False), ("", False)],
)
def test_opt_in_is_the_parsers_affair(value: str, asks: bool) -> None:
    """True is what is true to the worker."""
    assert bool(told(notification("create", "end", specs={"hw:heartbeat": value}))) == asks


def test_other_knobs_are_left_to_the_worker() -> None:
    """A flavor with a bad knob is sent on: the worker says what is wrong, in its log and its metrics."""
    message = notification("create", "end", specs={"hw:heartbeat": "true", "hw:heartbeat_interval": "soon"})
    (cast,) = decide(parse(*message.arguments))
    assert isinstance(cast, Configure)
    assert cast.knobs == {"heartbeat": "true", "interval": "soon"}


def with_opt_in(event_type: str, **data: Any) -> Message:
    """A real notification, of a flavor that asks."""
    one = sample(event_type)
    specs = {"hw:heartbeat": "true"}
    one.data["flavor"]["nova_object.data"]["extra_specs"] = specs
    one.data.update(data)
    return one


REAL = {
    "instance.create.start": [],
    "instance.create.end": ["node1: configure"],
    "instance.power_off.start": ["node1: expect power_off"],
    "instance.power_off.end": ["node1: end power_off"],
    "instance.power_on.start": [],
    "instance.power_on.end": ["node1: configure", "node1: end rescued", "node1: end power_off"],
    "instance.reboot.start": ["node1: expect reboot"],
    "instance.reboot.end": ["node1: configure", "node1: end rescued", "node1: end power_off", "node1: end reboot"],
    "instance.delete.start": ["node1: expect delete"],
    "instance.delete.end": ["node1: end delete"],
    "instance.shutdown.start": [],
    "instance.shutdown.end": [],
    # An evacuation from node2 to node1, while Nova's database still says node2.
    "instance.evacuate": [],
    "instance.rebuild_scheduled": [],
    "instance.rebuild.start": ["node1: expect rebuild"],
    "instance.rebuild.end": ["node1: configure", "node1: end rescued", "node1: end rebuild"],
    "instance.exists": [],
    # Two live migrations from node1 to node2: one that is rolled back, and one that is not.
    "instance.live_migration_pre.start": ["node2: expect live_migration", "node1: expect live_migration"],
    "instance.live_migration_pre.end": [],
    "instance.live_migration_rollback.start": [],
    "instance.live_migration_rollback.end": ["node1: end live_migration"],
    "instance.live_migration_rollback_dest.start": [],
    "instance.live_migration_rollback_dest.end": ["node2: end live_migration"],
    "instance.live_migration_post.start": [],
    "instance.live_migration_post_dest.start": [],
    "instance.live_migration_post_dest.end": ["node2: configure", "node2: end live_migration"],
    "instance.live_migration_post.end": ["node1: end rescued", "node1: end live_migration"],
    "instance.lock": [],
    "instance.unlock": [],
    "instance.update": [],
}


def test_real_notifications() -> None:
    """What is done about each of those that a real Nova sent, had the flavor asked; each key names its request."""
    asked = {one.event_type for one in samples() if one.event_type.startswith("instance.")}
    assert asked == set(REAL)
    for event_type, expected in REAL.items():
        one = with_opt_in(event_type)
        request = one.data["request_id"]
        assert [text.replace(f":{request}", "") for text in told(one)] == expected, event_type


def test_a_silence_in_full() -> None:
    """It begins when Nova's host says so, and lasts as long as the operator says."""
    message = notification("power_off", "start", publisher="nova-compute:cn7")
    assert decide(parse(*message.arguments), {**TIMEOUTS, Operation.POWER_OFF: 42.0}) == [
        ExpectSilence("cn7", UUID, "power_off", "Nova powers it off", 42.0, NOON)
    ]


def test_novas_own_power_off_is_no_intent() -> None:
    """After a crash Nova's periodic task stops what is already dead, and no user asked: the fault must come."""
    assert told(notification("power_off", "start", action_initiator_user=None, request_id=None)) == []
    assert told(notification("power_off", "end", action_initiator_user=None, request_id=None)) == [
        "node1: end power_off"
    ], "it is off, whoever wanted that"
    assert told(notification("delete", "start", action_initiator_user=None, request_id=None)) == [
        "node1: expect delete"
    ], "reclaiming what was soft-deleted is intent all the same"


def test_a_nova_compute_that_is_restarted_does_it_again() -> None:
    """As a request of its own, that no user asked for, whose end ends the silence of the first. Or it does not, and the
    instance is started all the same: it must not be taken for silent until the time-out."""
    begun = notification("power_off", "start", request_id="req-a")
    assert told(begun, notification("power_off", "end", request_id="req-b", action_initiator_user=None)) == [
        "node1: expect power_off",
        "node1: end power_off",
    ]
    for again in ("power_on", "reboot"):
        lines = told(begun, notification(again, "end", request_id="req-c"))
        assert (lines[0], lines[3]) == ("node1: expect power_off", "node1: end power_off")
    rebooted = (notification("reboot", phase, request_id=request) for phase, request in (("start", "a"), ("end", "b")))
    lines = told(*rebooted)
    assert (lines[0], lines[-1]) == ("node1: expect reboot", "node1: end reboot")


def test_rescue_lasts_until_unrescue() -> None:
    """They are two requests: what lasts between them has a key without either."""
    assert told(
        notification("rescue", "start", request_id="req-a"),
        notification("rescue", "end", request_id="req-a"),
        notification("unrescue", "start", request_id="req-b"),
        notification("unrescue", "end", request_id="req-b"),
    ) == [
        "node1: expect rescue:req-a",
        "node1: expect rescued",
        "node1: end rescue:req-a",
        "node1: expect unrescue:req-b",
        "node1: configure",
        "node1: end rescued",
        "node1: end unrescue:req-b",
    ]


@pytest.mark.parametrize("publisher", ["nova-api:cn1", "nova-conductor:cn1", "nova-scheduler:cn1"])
def test_only_nova_compute_knows_where_it_is(publisher: str) -> None:
    """Others say their own host: of a delete while the host is away, or of a change in the database."""
    for action, phase in ALL:
        assert told(notification(action, phase, publisher=publisher)) == []


def test_live_migration_without_a_source() -> None:
    """Where the database knows no other host than the destination, nobody else is told."""
    for host in (None, "h2"):
        message = notification("live_migration_pre", "start", publisher="nova-compute:h2", host=host)
        assert told(message) == ["h2: expect live_migration:req-1"]
