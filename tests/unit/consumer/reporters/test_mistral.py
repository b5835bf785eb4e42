"""The Mistral reporter, against an HTTP server that answers as told."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from oslo_config import cfg

from tests.fakes import a_fault
from vmhb_common.model.fault import Change, Fault, FaultState, Resolution
from vmhb_consumer.reporters.base import Case, Done, Later, Outcome, Permit, Refused
from vmhb_consumer.reporters.mistral import MistralReporter
from vmhb_consumer.reporters.testing import Backend, HttpContract, Reply

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=timezone.utc)


class Mistral:
    """Takes requests, and answers each with `code`."""

    def __init__(self) -> None:
        self.code = 201
        self.asked: list[dict[str, Any]] = []
        mistral = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                mistral.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self._answer()

            def do_GET(self) -> None:
                self._answer()

            def _answer(self) -> None:
                self.send_response(mistral.code)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v2"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def mistral() -> Iterator[Mistral]:
    """One for each test."""
    one = Mistral()
    yield one
    one.server.shutdown()
    one.server.server_close()


class TestContract(HttpContract):
    """What every reporter keeps to. One case is not for what goes through keystoneauth: its `timeout` is one of each
    pause in an answer."""

    reporter = MistralReporter
    good = Reply(201)
    test_too_slow = None  # type: ignore[assignment]

    def values(self, backend: Backend) -> dict[str, Any]:
        """Without Keystone."""
        return {"auth_type": "none", "endpoint_override": backend.url, "workflow": "tell"}


def reporter(mistral: Mistral, **values: Any) -> MistralReporter:
    conf = cfg.ConfigOpts()
    conf.register_opts(MistralReporter.options(), group="reporter_mistral")
    conf([], default_config_files=[], default_config_dirs=[])
    for name, value in {"auth_type": "none", "endpoint_override": mistral.url, **values}.items():
        conf.set_override(name, value, group="reporter_mistral")
    return MistralReporter(conf.reporter_mistral, lambda: NOON)


def case(fault: Fault, change: Change = Change.RAISED, **more: Any) -> Case:
    return Case(**{"change": change, "fault": fault, "latest": fault, "received_at": NOON, "attempt": 1, **more})


def deliver(to: MistralReporter, one: Case) -> Case:
    """Until it is delivered, as the consumer's outbox does it: what is kept comes back. Returns it with its memo."""
    while (outcome := to.deliver(one)) != Done():
        assert isinstance(outcome, Later) and outcome.retry_in == 0.0 and outcome.memo is not None, outcome
        assert outcome.known
        one = replace(one, memo=json.loads(json.dumps(outcome.memo)), attempt=one.attempt + 1)
    return one


def recover(**changed: Any) -> Fault:
    return replace(a_fault(), recommended_action="recover", withheld=None, recovery_attempt=1, **changed)


def test_a_workflow_is_told(mistral: Mistral) -> None:
    """Event type and fault are its input, and a second request has the same id."""
    mine = reporter(mistral, workflow="tell")
    fault = a_fault()
    mine.deliver(case(fault))
    mine.deliver(case(fault))
    first, second = mistral.asked
    assert first == second
    assert first["workflow_name"] == "tell"
    assert first["input"]["event_type"] == "vmhb.fault.raised"
    assert first["input"]["fault"]["fault_id"] == fault.fault_id


def test_only_of_what_it_wants(mistral: Mistral) -> None:
    """By default of raise and clear; a reminder starts nothing."""
    mine = reporter(mistral, workflow="tell")
    wanted = [mine.wants(change, a_fault()) for change in (Change.RAISED, Change.UPDATED, Change.CLEARED)]
    assert wanted == [True, False, True]
    reporter(mistral, workflow="tell", changes=["updated"]).deliver(case(a_fault(), Change.UPDATED, reminder=True))
    assert mistral.asked == []


def test_a_recovery_is_started_once_for_each_attempt(mistral: Mistral) -> None:
    """Reminders repeat the attempt, also to a consumer that was restarted; the next attempt is another execution."""
    memo: Mapping[str, Any] = {}
    for sequence, attempt in ((1, 1), (2, 1), (3, 2)):
        fault = replace(recover(sequence=sequence), recovery_attempt=attempt)
        memo = deliver(reporter(mistral, recovery_workflow="heal"), case(fault, Change.UPDATED, memo=memo)).memo
    assert len(mistral.asked) == 2
    assert mistral.asked[0]["id"] != mistral.asked[1]["id"]
    assert memo == {"started": 2}


def test_a_recovery_that_is_held_tells_once(mistral: Mistral) -> None:
    """The workflow that is told of the fault isn't started anew with each try of the recovery."""
    mine = reporter(mistral, workflow="tell", recovery_workflow="heal")
    told = mine.deliver(case(recover(), permit=lambda: Permit(False, "the brake", 30.0)))
    assert isinstance(told, Later) and told.memo is not None
    for _ in range(3):
        held = mine.deliver(case(recover(), memo=told.memo, permit=lambda: Permit(False, "the brake", 30.0)))
        assert isinstance(held, Later) and "brake" in held.why and held.memo is None
    done = deliver(mine, case(recover(), memo=told.memo))
    assert [one["workflow_name"] for one in mistral.asked] == ["tell", "heal"]
    assert done.memo == {"told": 1, "started": 1}


def test_a_recovery_that_nobody_wants_any_more(mistral: Mistral) -> None:
    """Cleared, no longer asked for, or another attempt's turn: nothing is started."""
    mine = reporter(mistral, recovery_workflow="heal")
    fault = recover()
    for latest in (
        replace(fault, sequence=9, state=FaultState.CLEARED, resolution=Resolution.RECOVERED),
        replace(fault, sequence=9, recommended_action="alarm", withheld="brake"),
        replace(fault, sequence=9, recovery_attempt=2),
    ):
        outcome = mine.deliver(case(fault, latest=latest))
        assert isinstance(outcome, Refused) and outcome.rightly
    assert mistral.asked == []


@pytest.mark.parametrize(("seconds", "kind"), [(30.0, Later), (None, Refused)])
def test_no_recovery_without_a_permit(mistral: Mistral, seconds: float | None, kind: type[Outcome]) -> None:
    """The brake makes it wait, a spent budget ends it, until a reminder asks for it again."""
    mine = reporter(mistral, recovery_workflow="heal")
    outcome = mine.deliver(case(recover(), permit=lambda: Permit(False, "the brake", seconds)))
    assert isinstance(outcome, kind) and not isinstance(outcome, Done) and "brake" in outcome.why
    assert isinstance(outcome, Later) or (outcome.rightly and outcome.remind)
    assert mistral.asked == []


@pytest.mark.parametrize(("code", "kind"), [(400, Refused), (401, Later), (403, Later), (404, Later), (503, Later)])
def test_what_mistral_refuses(mistral: Mistral, code: int, kind: type[Outcome]) -> None:
    """Only what another try can't change is given up; a workflow that is not there yet may be created."""
    mistral.code = code
    outcome = reporter(mistral, workflow="tell").deliver(case(a_fault()))
    assert type(outcome) is kind and not isinstance(outcome, Done) and str(code) in outcome.why
    assert str(code) in str(reporter(mistral, workflow="tell").check())


def test_mistral_away(mistral: Mistral) -> None:
    """Tried again."""
    mine = reporter(mistral, workflow="tell")
    mistral.server.shutdown()
    mistral.server.server_close()
    outcome = mine.deliver(case(a_fault()))
    assert isinstance(outcome, Later) and "reached" in outcome.why


def test_who_is_told_of_clears_alone(mistral: Mistral) -> None:
    """A clear comes only after a raise: that is taken, and no workflow hears of it."""
    mine = reporter(mistral, workflow="tell", changes=["cleared"])
    assert mine.wants(Change.RAISED, a_fault())
    assert mine.deliver(case(a_fault())) == Done()
    assert mistral.asked == []
    assert mine.deliver(case(a_fault(), Change.CLEARED)) == Done()
    assert len(mistral.asked) == 1


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "workflow"),
        ({"workflow": "w", "changes": ["often"]}, "often"),
        ({"workflow": "w", "endpoint_override": None}, "endpoint_override"),
        ({"workflow": "w", "auth_type": "password"}, "auth_url"),
    ],
)
def test_options_that_make_no_sense(mistral: Mistral, values: dict[str, Any], says: str) -> None:
    """Said at once, by the option's name."""
    with pytest.raises(ValueError, match=says):
        reporter(mistral, **values)
