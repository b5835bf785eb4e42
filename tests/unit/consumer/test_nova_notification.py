"""Reading Nova's notifications: the real ones, older and newer ones, and what nobody should ever send."""

from __future__ import annotations

import copy
import json
import time
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stage.nova import ASKS, UUID, notification, sample, samples
from vmhb_common.model.policy import MAX_KNOBS
from vmhb_consumer.nova_notification import BadNotification, Notification, parse


def test_a_real_one() -> None:
    """What Nova 34 sent when a user stopped a server."""
    assert parse(*sample("instance.power_off.start").arguments) == Notification(
        action="power_off",
        phase="start",
        service="nova-compute",
        host="node1",
        observed_at=datetime(2026, 11, 22, 8, 11, 26, 369897, tzinfo=timezone.utc),
        instance_uuid="b8c5510d-12b5-4ba4-83f1-4879fdc33d21",
        database_host="node1",
        knobs={},
        request_id="req-cd047313-354d-4020-a916-a75e33ee0100",
        initiator="f8b483e28efa46adadb215fa0ae75b4e",
        state="active",
        task_state="powering-off",
    )


def test_every_sample_is_read_or_is_of_something_else() -> None:
    """Of what a cloud sends, all that is about an instance can be read."""
    for one in samples():
        if one.event_type.startswith("instance."):
            assert parse(*one.arguments).instance_uuid == one.data["uuid"]
        else:
            with pytest.raises(BadNotification, match="event_type is '"):
                parse(*one.arguments)


def test_only_heartbeat_knobs_are_kept() -> None:
    """The flavor's other extra specs are nobody's business."""
    assert parse(*notification("create", "end").arguments).knobs == {"heartbeat": "true", "interval": "1"}


def test_a_host_may_be_null_and_an_address() -> None:
    """Before Nova has placed an instance, it is nowhere; hosts may be named by their IPv6 address."""
    read = parse(*notification("create", "start", publisher="nova-compute:fd00::7", host=None).arguments)
    assert (read.host, read.database_host) == ("fd00::7", None)


@pytest.mark.parametrize("version", ["1.0", "1.9", "1.10", "1.99"])
def test_minor_versions_only_add(version: str) -> None:
    """A newer Nova's payload is read by the names of its fields, and an older one's lacks some."""
    message = notification("pause", "start")
    message.payload["nova_object.version"] = version
    message.data["new_in_some_release"] = {"anything": [1, 2, 3]}
    for name in ("request_id", "action_initiator_user", "host", "state", "task_state"):
        del message.data[name]
    read = parse(*message.arguments)
    assert (read.instance_uuid, read.request_id, read.initiator, read.database_host) == (UUID, None, None, None)


def test_a_zone_is_obeyed() -> None:
    """oslo.messaging's time stamps are in UTC and do not say so; one that does is taken at its word."""
    message = notification("pause", "start")
    message.metadata["timestamp"] = "2026-01-31T13:00:00+01:00"
    assert parse(*message.arguments).observed_at == datetime(2026, 1, 31, 12, tzinfo=timezone.utc)


HOSTILE: list[Any] = [
    None,
    "",
    0,
    -1,
    1.5,
    True,
    [],
    {},
    ["x"],
    {"x": 1},
    "\x00\n\x1b[2J",
    "x" * 100_000,
    "a b",
    "#",
    "é",
]
FIELDS = [
    ("publisher_id",),
    ("event_type",),
    ("payload",),
    ("metadata",),
    ("metadata", "timestamp"),
    ("payload", "nova_object.version"),
    ("payload", "nova_object.data"),
    ("payload", "nova_object.data", "uuid"),
    ("payload", "nova_object.data", "host"),
    ("payload", "nova_object.data", "request_id"),
    ("payload", "nova_object.data", "action_initiator_user"),
    ("payload", "nova_object.data", "flavor"),
    ("payload", "nova_object.data", "flavor", "nova_object.version"),
    ("payload", "nova_object.data", "flavor", "nova_object.data"),
    ("payload", "nova_object.data", "flavor", "nova_object.data", "extra_specs"),
    ("payload", "nova_object.data", "flavor", "nova_object.data", "extra_specs", "hw:heartbeat"),
]


def changed(path: tuple[str, ...], value: Any) -> tuple[Any, Any, Any, Any]:
    """The arguments of a good one, but for this value; `...`: without it."""
    good = notification("pause", "start")
    whole: Any = {
        "publisher_id": good.publisher_id,
        "event_type": good.event_type,
        "payload": copy.deepcopy(good.payload),
        "metadata": dict(good.metadata),
    }
    inner = whole
    for name in path[:-1]:
        inner = inner[name]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return whole.get("publisher_id"), whole.get("event_type"), whole.get("payload"), whole.get("metadata")


@pytest.mark.parametrize("path", FIELDS, ids=lambda path: path[-1])
@pytest.mark.parametrize("value", [*HOSTILE, ...], ids=lambda value: ascii(value)[:20])
def test_any_field_may_be_anything(path: tuple[str, ...], value: Any) -> None:
    """It is read, or refused with one short line that is fit for a log: nothing else can happen."""
    try:
        read = parse(*changed(path, value))
    except BadNotification as error:
        assert str(error).isprintable()
        assert len(str(error)) < 250
    else:
        assert " " not in read.host and len(read.host) <= 200


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("publisher_id",), "nova-compute:two words"),
        (("publisher_id",), "nova-compute:a.#"),
        (("publisher_id",), "nova-compute:"),
        (("publisher_id",), "nova-compute:" + "é" * 100),
        (("payload", "nova_object.version"), "3.0"),
        (("payload", "nova_object.data", "host"), "a\nb"),
        (("payload", "nova_object.data", "uuid"), UUID.replace("-", "")),
        (("payload", "nova_object.data", "flavor", "nova_object.data", "extra_specs"), {"hw:heartbeat": 1}),
        (
            ("payload", "nova_object.data", "flavor", "nova_object.data", "extra_specs"),
            {f"hw:heartbeat_{number}": "x" for number in range(MAX_KNOBS + 1)},
        ),
        (("payload", "nova_object.data", "flavor", "nova_object.data", "extra_specs"), {"hw:heartbeat": "\ud800"}),
        (("payload", "nova_object.data", "flavor", "nova_object.data", "extra_specs"), {"hw:heartbeat_\udfff": "1"}),
        (("payload", "nova_object.data", "state"), "active\ud800"),
        (("payload", "nova_object.data", "action_initiator_user"), "\0"),
        (("payload", "nova_object.data", "uuid"), "\u0660" * 8 + UUID[8:]),
        (("metadata", "timestamp"), "0001-01-01T00:00:00+14:00"),
    ],
)
def test_what_would_do_harm_is_refused(path: tuple[str, ...], value: Any) -> None:
    """A host goes into a routing key, knobs are sent on, a time is calculated with."""
    with pytest.raises(BadNotification):
        parse(*changed(path, value))


def test_size_costs_no_more_than_size() -> None:
    """A payload of megabytes, or nested a thousand deep, is read as fast as it was decoded."""
    message = notification("pause", "start")
    nested: Any = {}
    for _ in range(900):
        nested = {"x": nested}
    message.data["metadata"] = {str(number): "x" * 100 for number in range(20_000)}
    message.data["nested"] = nested
    message.data["flavor"]["nova_object.data"]["extra_specs"] = ASKS | {f"s{n}": "x" for n in range(20_000)}
    began = time.monotonic()
    assert parse(*message.arguments).knobs["heartbeat"] == "true"
    assert time.monotonic() - began < 1.0


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["nova_object.data", "nova_object.version", "uuid", "flavor", "extra_specs", "timestamp"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(anything, st.sampled_from(["instance.pause.start", "instance.pause"]) | anything, anything, anything)
def test_nothing_but_bad_notification(publisher_id: Any, event_type: Any, payload: Any, metadata: Any) -> None:
    """Whatever JSON can say, is read or refused."""
    try:
        parse(publisher_id, event_type, payload, metadata)
    except BadNotification as error:
        assert str(error).isprintable()


def test_samples_name_no_machine_of_ours() -> None:
    """They are captured data: no folder and no address is in them."""
    for one in samples():
        text = json.dumps([one.payload, one.publisher_id])
        assert not any(word in text for word in ("/home", "/root", "/tmp/", "127.0.0.1"))
