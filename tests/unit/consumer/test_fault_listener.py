"""Notifications as they come, and what becomes of them."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import oslo_messaging
import pytest

from tests.fakes import a_fault
from tests.unit.consumer.fakes import FlakyRecords
from vmhb_common.objects import SignOfLife, fault_payload, worker_payload
from vmhb_consumer.counters import Tally
from vmhb_consumer.fault_listener import Endpoint, parse_sign

HANDLED, REQUEUE = oslo_messaging.NotificationResult.HANDLED, oslo_messaging.NotificationResult.REQUEUE
NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=timezone.utc)
SIGN = worker_payload(SignOfLife("cn1", "1", NOON, NOON, 7, 60.0, 3, {}, 0, True, {}))


def give(records: Any, event_type: Any, payload: Any, waits: list[bool] | None = None) -> tuple[str, dict[str, int]]:
    """Hand it to an endpoint. What is said to the broker, and what was counted."""
    tally = Tally()
    pauses = iter(waits or [])
    endpoint = Endpoint(records, tally, NOON.timestamp, wait=lambda _seconds: next(pauses))
    result: str = endpoint.info({}, "vmhb-worker:cn1", event_type, payload, {})
    return result, tally.snapshot()


def test_a_fault() -> None:
    """Acknowledged once it is kept."""
    records = FlakyRecords()
    assert give(records, "vmhb.fault.raised", fault_payload(a_fault())) == (HANDLED, {"faults.new": 1})
    assert records.taken == [a_fault()]


def test_a_sign_of_life() -> None:
    """As much of it as is needed."""
    records = FlakyRecords()
    assert give(records, "vmhb.worker.alive", SIGN) == (HANDLED, {"signs_of_life": 1})
    (sign,) = records.taken
    assert (sign.host, sign.started_at, sign.sequence, sign.interval, sign.instances) == (
        *("cn1", NOON.timestamp(), 7, 60.0, 3),
    )


@pytest.mark.parametrize("event_type", ["vmhb.heartbeat.established", "vmhb.of.the.future", None, 7])
def test_of_no_concern(event_type: Any) -> None:
    """It is acknowledged, and nothing is said."""
    assert give(FlakyRecords(), event_type, {}) == (HANDLED, {})


@pytest.mark.parametrize(("allowed", "result", "taken"), [(True, HANDLED, 1), (False, REQUEUE, 0)])
def test_held_until_it_may_be_taken(allowed: bool, result: str, taken: int) -> None:
    """It is looked at by nobody before that is known; where it is not ours, it goes back, nonsense as well."""
    records: Any = FlakyRecords()
    endpoint = Endpoint(records, Tally(), NOON.timestamp, allowed=lambda: allowed)
    assert endpoint.info({}, "vmhb-worker:cn1", "vmhb.fault.raised", fault_payload(a_fault()), {}) == result
    assert len(records.taken) == taken
    assert endpoint.info({}, "vmhb-worker:cn1", "vmhb.fault.raised", "nonsense", {}) == result


def test_the_database_is_away() -> None:
    """Nothing is acknowledged until it is back; who ends meanwhile gives it back to the broker."""
    records = FlakyRecords(away=2)
    assert give(records, "vmhb.worker.alive", SIGN, [False, False])[0] == HANDLED
    assert len(records.taken) == 1
    records = FlakyRecords(away=2)
    assert give(records, "vmhb.worker.alive", SIGN, [True])[0] == REQUEUE
    assert records.taken == []


def test_an_error_of_our_own() -> None:
    """It is said and dropped: it would come back for ever."""
    records = FlakyRecords(away=1, error=RuntimeError("a bug"))
    assert give(records, "vmhb.fault.raised", fault_payload(a_fault())) == (HANDLED, {"refused": 1})


@pytest.mark.parametrize(
    "change",
    [
        {"host": ""},
        {"host": 7},
        {"host": "h" * 256},
        {"started_at": None},
        {"started_at": "yesterday"},
        {"sequence": True},
        {"sequence": 0},
        {"sequence": 2**31},
        {"interval": "60"},
        {"interval": float("nan")},
        {"instances": -1},
    ],
)
def test_a_bad_sign_of_life(change: dict[str, Any]) -> None:
    """Refused with a sentence; the next one may be good."""
    payload = {**SIGN, "vmhb_object.data": {**SIGN["vmhb_object.data"], **change}}
    with pytest.raises(ValueError):
        parse_sign(payload)
    assert give(FlakyRecords(), "vmhb.worker.alive", payload) == (HANDLED, {"refused": 1})


def test_an_interval_is_bounded() -> None:
    """No worker can say that it need never be missed."""
    for said, taken in ((1e9, 3600.0), (0.0, 1.0)):
        payload = {**SIGN, "vmhb_object.data": {**SIGN["vmhb_object.data"], "interval": said}}
        assert parse_sign(payload).interval == taken
