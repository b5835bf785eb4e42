"""Starts Mistral workflows for faults, through Mistral's API. Knows what to start and when, and no workflow's content.

Exactly once: the execution's id is worked out of the fault, and Mistral answers a second request for the same id with
the execution that is there. A recovery is one execution for each pair of `fault_id` and `recovery_attempt`; what was
started is in the memo, since Mistral may have removed the execution (`[execution_expiration_policy]`) while reminders
still ask for the same attempt.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from keystoneauth1 import adapter
from keystoneauth1 import exceptions as keystone_exceptions
from oslo_config import cfg

from vmhb_common.conf.types import prose
from vmhb_common.model.fault import Change, Fault, FaultState
from vmhb_common.objects import fault_as_told
from vmhb_consumer.reporters import keystone
from vmhb_consumer.reporters.base import CannotBeMade, Case, Done, Later, Outcome, Refused, Reporter, made
from vmhb_consumer.reporters.http import REFUSING, SHOWN

#: In the memo: the last sequence that the workflow was told of, and the last attempt that was started.
TOLD, STARTED = "told", "started"

CHANGES = {str(change).rpartition(".")[2]: change for change in Change}


@dataclass(frozen=True, slots=True)
class Start:
    """One execution to start."""

    workflow: str
    execution_id: str
    input: Mapping[str, Any]
    description: str


def told(workflow: str, case: Case) -> Start:
    """The workflow that is told of a change."""
    fault = case.fault
    of = f"{fault.fault_id} {fault.sequence}"
    return made(lambda: _start(workflow, of, case.change, fault), "an execution's input", fault)


def recovery(workflow: str, case: Case) -> Start:
    """The workflow that recovers the instance, with what is known of the fault by now."""
    fault = case.latest
    of = f"{fault.fault_id} recovery {fault.recovery_attempt}"
    return made(lambda: _start(workflow, of, case.change, fault), "an execution's input", fault)


def _start(workflow: str, of: str, change: Change, fault: Fault) -> Start:
    # The namespace only has to be the same for ever.
    execution_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"nova-vmhb:{workflow}:{of}"))
    data = fault_as_told(fault)["vmhb_object.data"]
    description = f"nova-vmhb: {change} {fault.cause}, {fault.subject}"
    return Start(workflow, execution_id, {"event_type": str(change), "fault": data}, description)


def overtaken(fault: Fault, latest: Fault) -> str | None:
    """Why this recovery is not wanted any more, or None. `fault` asked for it; `latest` is what is known by now.

    Its age is `Case.permit`'s affair, which asks the worker and Nova about one that is old.
    """
    if latest.state is FaultState.CLEARED:
        return f"the fault is over: {latest.resolution}"
    if latest.recommended_action != "recover":
        return f"it is no longer asked for ({latest.recommended_action}, withheld: {latest.withheld})"
    if latest.recovery_attempt != fault.recovery_attempt:
        return f"attempt {latest.recovery_attempt} has taken its place"
    return None


class MistralReporter(Reporter):
    """See the module. BLOCKS as long as `timeout` says for each request."""

    name = "mistral"
    summary = "Mistral workflows that are started for faults, without its event engine"
    acts = True

    @classmethod
    def options(cls) -> Sequence[cfg.Opt]:
        """Its group."""
        return [*_OPTIONS, *keystone.options()]

    def __init__(self, options: Any, now: Callable[[], datetime]) -> None:
        """As the contract says."""
        self._changes = _changes(options.changes)
        if not (options.workflow or options.recovery_workflow):
            raise ValueError("no workflow to start: set workflow, recovery_workflow, or both")
        if options.auth_type == "none" and not options.endpoint_override:
            raise ValueError("endpoint_override is missing: without Keystone there is no catalogue to look it up in")
        self._workflow: str | None = options.workflow
        self._recovery: str | None = options.recovery_workflow
        self._mistral = adapter.Adapter(
            keystone.load(options),
            service_type="workflowv2",
            interface=list(options.valid_interfaces),
            region_name=options.region_name,
            endpoint_override=options.endpoint_override,
            user_agent="nova-vmhb",
        )

    def check(self) -> str | None:
        """Are the workflows there, and are we let in? In two requests at most."""
        for workflow in filter(None, (self._workflow, self._recovery)):
            try:
                answer = self._mistral.get(f"/workflows/{quote(workflow, safe='')}", raise_exc=False, timeout=1.9)
            except keystone_exceptions.ClientException as error:
                return f"Mistral can't be asked for workflow {workflow}: {error}"
            if answer.status_code != 200:
                return f"Mistral says {_said(answer)} when asked for workflow {workflow}: {_remedy(answer.status_code)}"
        return None

    def wants(self, change: Change, fault: Fault) -> bool:
        """Of `updated` those with something new among them; which these are is known later. A raise that no workflow is
        told of is wanted all the same, if what follows is not to come as the raise."""
        return (
            self._is_told_of(change)
            or self._recovers(fault)
            or (self._workflow is not None and change is Change.RAISED)
        )

    def deliver(self, case: Case) -> Outcome:
        """Start what this change asks for. Each execution is written down before the next one."""
        try:
            return self._deliver(case)
        except CannotBeMade as error:
            return Refused(str(error))

    def _deliver(self, case: Case) -> Outcome:
        recovers = self._recovery is not None and self._recovers(case.fault)
        if self._workflow and self._is_told_of(case.change) and not case.reminder and not _done(case, TOLD):
            problem = self._post(told(self._workflow, case))
            if problem is not None:
                return problem
            if recovers:
                return _noted(case, TOLD, f"workflow {self._workflow} is told of it")
        if self._recovery and recovers and not _done(case, STARTED):
            return self._recover(recovery(self._recovery, case), case)
        return Done(known=not case.reminder)

    def _is_told_of(self, change: Change) -> bool:
        return self._workflow is not None and change in self._changes

    def _recovers(self, fault: Fault) -> bool:
        return self._recovery is not None and fault.recommended_action == "recover"

    def _recover(self, start: Start, case: Case) -> Outcome:
        why = overtaken(case.fault, case.latest)
        if why is not None:
            return Refused(f"no recovery of instance {case.fault.instance_uuid}: {why}", rightly=True, remind=True)
        permit = case.permit()
        if not permit.granted:
            why = f"recovery of instance {case.fault.instance_uuid} is held back: {permit.why}"
            # The instance's budget is spent for a while only: the next reminder asks again.
            return Refused(why, rightly=True, remind=True) if permit.seconds is None else Later(permit.seconds, why)
        problem = self._post(start)
        if problem is not None:
            return problem
        return _noted(case, STARTED, f"workflow {start.workflow} is to recover it, execution {start.execution_id}")

    def _post(self, start: Start) -> Later | Refused | None:
        """None: it is started."""
        body = {
            "id": start.execution_id,
            "workflow_name": start.workflow,
            "input": start.input,
            "description": start.description,
        }
        try:
            answer = self._mistral.post("/executions", json=body, raise_exc=False)
        except keystone_exceptions.ClientException as error:
            return Later(None, f"Mistral can't be reached: {error}")
        if answer.status_code in (200, 201):
            return None
        why = (
            f"Mistral says {_said(answer)} when asked to start workflow {start.workflow}: {_remedy(answer.status_code)}"
        )
        return Refused(why, remind=True) if answer.status_code in REFUSING else Later(None, why)


def _number(case: Case, what: str) -> int:
    return case.fault.sequence if what == TOLD else case.fault.recovery_attempt


def _done(case: Case, what: str) -> bool:
    return _number(case, what) <= int(case.memo.get(what, 0))


def _noted(case: Case, what: str, why: str) -> Later:
    """It has this written down, and comes back at once."""
    return Later(0.0, why, {**case.memo, what: _number(case, what)}, known=True)


def _changes(names: Sequence[str]) -> frozenset[Change]:
    unknown = [name for name in names if name not in CHANGES]
    if unknown:
        raise ValueError(f"changes: {', '.join(unknown)} is none of {', '.join(CHANGES)}")
    return frozenset(CHANGES[name] for name in names)


def _said(answer: Any) -> str:
    return f"{answer.status_code} {answer.text[:SHOWN]!r}"


_REMEDIES = {
    400: "its input must be event_type and fault, as in etc/mistral/vmhb_fault.yaml",
    401: "check the credentials",
    403: "our user may not; check the policy, and the project",
    404: "create it in our project, or publicly; or correct endpoint_override, which ends in /v2",
}


def _remedy(code: int) -> str:
    return _REMEDIES.get(code, "see Mistral's log")


_OPTIONS = (
    cfg.StrOpt(
        "workflow",
        help=prose(
            """
The workflow, by name or id, that is started for each change that `changes` names. Its input is event_type, and fault:
the fields of the notification. etc/mistral/vmhb_fault.yaml is one to begin with.

By default none is started.
"""
        ),
    ),
    cfg.ListOpt(
        "changes",
        default=["raised", "cleared"],
        help=prose(
            """
The changes of a fault that workflow is started for: any of raised, updated and cleared. Reminders start nothing.

With updated it is told of each new piece of evidence, and of each recovery that is asked for.
"""
        ),
    ),
    cfg.StrOpt(
        "recovery_workflow",
        help=prose(
            """
The workflow, by name or id, that recovers an instance. It is started once for each recovery that is asked for (at most
`recoveries` in `recovery_window`, within the cloud-wide limits), and has the same input.

By default none. Set it only where Masakari doesn't recover the same instances.
"""
        ),
    ),
    cfg.StrOpt(
        "endpoint_override",
        help=prose("Mistral's API, http://…:8989/v2. By default it is looked up in Keystone's catalogue (workflowv2)."),
    ),
    cfg.ListOpt(
        "valid_interfaces",
        default=["internal", "public"],
        help=prose("The catalogue's interfaces to take, the best first."),
    ),
    cfg.StrOpt("region_name", help=prose("The region to take Mistral from, where the catalogue has several.")),
)
