"""What is put to the guests' agents, one request per instance at a time, and what its end means for the instance.

A heartbeat goes before a health check: one that has not begun makes way, one that has is waited for. An answer is told
from a stale one by its request's nonce. Where it is the application that must acknowledge, the agent's answer is
evidence about its guest. Pure: whoever owns this starts what `admit` gives, and hands each event to the instance's
monitor before taking the next one, since what that monitor wants done comes before what waited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from vmhb_common.model.policy import Channel, HeartbeatPolicy
from vmhb_worker.core.agent_lanes import Lanes, Request
from vmhb_worker.core.events import (
    Acked,
    AgentCommand,
    AgentReplied,
    Ask,
    AskEnded,
    AskFailed,
    AskOther,
    CommandEnded,
    Event,
    Failure,
    OtherAnswered,
    Pace,
)


@dataclass(slots=True)
class _Instance:
    nonce: int = 0  # of its newest request
    command: bool = False  # does a command wait for a place, or is one under way?
    waiting: Ask | None = None  # a challenge that comes after that


class AgentRequests:
    """All of one host. Belongs to one thread. `policy`: the instance's, as it is now."""

    def __init__(self, lanes: Lanes, nonce: Callable[[], int]) -> None:
        """lanes: nobody else puts anything into them. nonce: makes a new one, that nobody can foresee."""
        self._lanes = lanes
        self._nonce = nonce
        self._instances: dict[str, _Instance] = {}
        #: When to `admit`.
        self.deadline = lanes.deadline

    def ask(self, uuid: str, ask: Ask, policy: HeartbeatPolicy) -> Iterable[Event]:
        """Challenge it; it must not be challenged already."""
        instance = self._instances.get(uuid) or self._new(uuid)
        if instance.command:
            instance.waiting = ask
            if self._lanes.withdraw(uuid):  # not begun: the heartbeat comes first
                return self._command_ended(
                    uuid, AgentReplied(None, Failure.UNREACHABLE, "withdrawn", left=False), policy
                )
        elif self._lanes.busy(uuid):  # of an earlier life of this instance, never given back
            return (_failed(Failure.UNREACHABLE, "an earlier challenge is still out", policy),)
        else:
            self._lanes.submit(Request(uuid, ask.timeout, policy.timeout, ask.pace))
        return ()

    def ask_other(self, uuid: str, ask: AskOther, policy: HeartbeatPolicy) -> Iterable[Event]:
        """Challenge it for the sake of its application, of which a verdict waits."""
        return self.ask(uuid, Ask(ask.timeout, Pace.SUSPECT), policy)

    def command(self, uuid: str, command: AgentCommand, policy: HeartbeatPolicy) -> Iterable[Event]:
        """Put this to its agent, if it is free."""
        instance = self._instances.get(uuid) or self._new(uuid)
        if self._lanes.busy(uuid) or instance.command:
            return self._command_ended(uuid, AgentReplied(None, Failure.UNREACHABLE, "busy", left=False), policy)
        instance.command = True
        # Whoever waits for a heartbeat goes first: among the slow ones there are never many.
        timeout = command.timeout
        self._lanes.submit(Request(uuid, timeout, float(timeout), Pace.SLOW, command=command.command))
        return ()

    def withdraw(self, uuid: str, policy: HeartbeatPolicy) -> Iterable[Event]:
        """Do not challenge it after all, unless that is under way. A command stays."""
        instance = self._instances.get(uuid) or self._new(uuid)
        waiting, instance.waiting = instance.waiting, None
        if waiting is not None or (not instance.command and self._lanes.withdraw(uuid)):
            return (_failed(Failure.UNREACHABLE, "withdrawn", policy),)
        return ()

    def give_way(self, uuid: str) -> None:
        """See `events.GiveWay`."""
        self._lanes.give_way(uuid)

    def prefer(self, uuid: str) -> None:
        """See `events.GoFirst`."""
        self._lanes.prefer(uuid)

    @property
    def waiting(self) -> bool:
        """Does any wait for a place?"""
        return self._lanes.waiting > 0

    def crowded(self, now: float) -> list[str]:
        """See `Lanes.crowded`; after `admit`."""
        return self._lanes.crowded(now)

    def admit(self, now: float) -> list[Request]:
        """The requests to be started now."""
        started = self._lanes.admit(now)
        for request in started:
            request.nonce = self._instances[request.uuid].nonce = self._nonce()
        return started

    def ended(self, report: AskEnded | CommandEnded, policy: HeartbeatPolicy | None) -> Iterable[Event]:
        """A request came to its end. policy: None where the instance is not monitored any more."""
        self._lanes.finished(report.uuid)
        instance = self._instances.get(report.uuid)
        if instance is None or policy is None or instance.nonce != report.nonce:
            return ()
        if isinstance(report, CommandEnded):
            return self._command_ended(report.uuid, report.replied, policy)
        if report.failure is not None:
            return (_failed(report.failure, report.detail, policy),)
        return (OtherAnswered(True) if policy.channel is Channel.APPLICATION else Acked(report.rtt),)

    def forget(self, uuid: str) -> None:
        """It is not monitored any more: what waits is dropped, and what is under way will mean nothing."""
        self._lanes.withdraw(uuid)
        self._instances.pop(uuid, None)

    def _new(self, uuid: str) -> _Instance:
        instance = self._instances[uuid] = _Instance()
        return instance

    def _command_ended(self, uuid: str, replied: AgentReplied, policy: HeartbeatPolicy) -> Iterator[Event]:
        instance = self._instances[uuid]
        instance.command = False
        waiting, instance.waiting = instance.waiting, None
        yield replied
        if waiting is not None:
            yield from self.ask(uuid, waiting, policy)


def _failed(failure: Failure, detail: str, policy: HeartbeatPolicy) -> Event:
    """The agent did not answer: of an instance that it is judged by, or as evidence about another's guest."""
    if policy.channel is Channel.APPLICATION:
        return OtherAnswered(False if failure is Failure.NO_ANSWER else None, f"{failure.value}: {detail}")
    return AskFailed(failure, detail)
