"""Many guests of a host fall silent at once: how late are the last ones told of, and what does it cost everybody else?

One run of one `Cell`, for the tests and for `benchmarks.crowds`. The guests are stand-ins (`tests.lab.stand_in`), so
that a hundred fit; libvirtd, RabbitMQ and the worker are real. Judged from outside, by notifications on the wire, calls
on libvirtd's socket and another client's calls: what is wrong with a cell is a list of sentences.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import libvirt

from tests.functional.stalling import Policy
from tests.lab import metadata
from tests.lab.node import Node
from tests.lab.processes import LabError, wait_until
from tests.lab.stand_in import StandIn
from tests.lab.tap import Tap
from tests.stage.bystander import Bystander
from tests.stage.consumer import ConsumerProcess, Notification
from tests.stage.crowd import stand_ins
from tests.stage.worker import WorkerProcess
from vmhb_common.model.words import StrEnum

#: Beside those to whom something happens, so many live on.
LIVING = 3
#: As Nova asks for it: mem_stats_period_seconds (seconds).
BALLOON_PERIOD = 10
#: How long the other client is watched before there is a worker (seconds).
ALONE = 6.0
#: Nothing may follow for so long (seconds), once all is said.
QUIET = 5.0

# What must be true, whatever the number.
#: From threshold × interval + timeout to the fault, and on to its final cause (seconds).
LATER, FINAL = 2.0, 3.0
#: The same over the agent channel at an interval of 1 s, from the death to the fault: libvirt's own 5 s for an agent,
#: which it does not answer, are longer than such a policy.
AGENT_AT_ONCE = 8.0
#: Who lives and whose agent alone is silent is asked in its turn, in one of so many places, for so long (seconds).
PLACES, TURN = 8, 5.0
#: From the moment on when a crowd has taken all places until its hosts have been asked, and who lives is: half a second
#: that it is waited for, a probe, and the looks before and after it.
TAKEN = 4.0
#: A QEMU that does not answer is named within (seconds), or with the fault.
NAMED = 15.0
#: Calls of ours in libvirtd at a time; those of them that come back only when a QEMU answers which may never.
CALLS, STUCK = 12, 4
#: How many times as long as alone another client's calls may take; so many seconds more are a busy machine's noise, who
#: waits for one of libvirtd's workers waits for longer.
SLOWER, NOISE = 2.0, 0.02
#: What it calls, see `tests.stage.bystander`.
CALLED = ("info", "domstats")
#: The fewest calls that say anything.
ENOUGH = 5

_NUMBERS = itertools.count(1)


class Mix(StrEnum):
    """What happens, and to whom."""

    DEAD = "dead"  # all kernels, at once
    AGENTS = "agents"  # all agents and applications, at once; the kernels live
    HALF = "half"  # half of them this, half of them that
    STOPPED = "stopped"  # a quarter of the QEMUs stand still; the others live on
    STAGGERED = "staggered"  # all kernels, one after the other, within two intervals


@dataclass(frozen=True)
class Deed:
    """What is done to one of them, and the cause that must come of it: over the agent channel, over the other."""

    do: Callable[[StandIn], float]
    agent: str
    application: str

    def cause(self, channel: str) -> str:
        """The one for this channel."""
        return self.agent if channel == "agent" else self.application


KERNEL = Deed(StandIn.kernel_dies, "guest_hung", "guest_hung")
AGENT = Deed(StandIn.agents_hang, "agent_unresponsive", "application_unresponsive")
QEMU = Deed(StandIn.stop_qemu, "qemu_hung", "qemu_hung")


#: For each mix: what happens to so large a part of them, and to the others.
SHARES: Mapping[Mix, tuple[Deed, Deed | None, float]] = {
    Mix.DEAD: (KERNEL, None, 1.0),
    Mix.AGENTS: (AGENT, None, 1.0),
    Mix.HALF: (KERNEL, AGENT, 0.5),
    Mix.STOPPED: (QEMU, None, 0.25),
    Mix.STAGGERED: (KERNEL, None, 1.0),
}


@dataclass(frozen=True)
class Cell:
    """What is done. channel: over which they are asked, `agent` or `application`."""

    guests: int
    mix: Mix
    policy: Policy
    channel: str

    def __str__(self) -> str:
        return f"{self.guests} guests, {self.mix}, {self.policy}, {self.channel}"

    @property
    def possible(self) -> bool:
        """Over the agent channel an interval is a second at least."""
        return self.channel == "application" or self.policy.interval >= 1

    @property
    def deeds(self) -> list[Deed | None]:
        """For each of them; None: it lives on."""
        one, other, share = SHARES[self.mix]
        number = math.ceil(self.guests * share)
        return [one] * number + [other] * (self.guests - number)

    @property
    def apart(self) -> float:
        """Seconds between the deeds."""
        return 2 * self.policy.interval / self.guests if self.mix is Mix.STAGGERED else 0.0

    @property
    def skipped_most(self) -> int:
        """Beats that one of the living may not be asked for, in a row: a crowd has all agents' places until its hosts
        have been asked."""
        waits = self.channel == "agent" and self.policy.timeout < TAKEN
        return math.ceil(TAKEN / self.policy.interval) - 1 if waits else 0

    def raised_within(self, deed: Deed) -> float:
        """From the deed to the fault, at most (seconds)."""
        if deed is AGENT:
            silent = self.deeds.count(AGENT)
            return self.policy.judged + math.ceil(silent / PLACES) * TURN
        if self.channel == "agent" and self.policy.interval <= 1:
            return max(AGENT_AT_ONCE, self.policy.judged + LATER)
        return self.policy.judged + LATER

    def final_within(self, deed: Deed) -> float:
        """From the deed to its last cause, with all the evidence there is, at most (seconds)."""
        raised = self.raised_within(deed)
        return {KERNEL: raised + FINAL, AGENT: raised, QEMU: max(raised, NAMED)}[deed]


@dataclass
class Outcome:
    """What came of it. Times are seconds since what was done to each; wrong: what must not have been."""

    cell: Cell
    raised: list[float] = field(default_factory=list)
    named: list[float] = field(default_factory=list)  # from when on its cause was its last
    final: list[float] = field(default_factory=list)  # and no evidence was waited for any more
    causes: Counter[str] = field(default_factory=Counter)
    accused: int = 0  # faults of those that live
    skipped: int = 0  # beats of those that live, in a row, at most
    calls: int = 0  # from the worker's start on
    stuck: int = 0
    info: tuple[float, float] = (math.nan, math.nan)  # seconds, the median: alone, meanwhile
    domstats: tuple[float, float] = (math.nan, math.nan)
    cpu: float = 0.0  # the worker's, in percent of one processor
    wrong: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = ", ".join(f"{cause} {number}" for cause, number in sorted(self.causes.items())) or "-"
        said = (
            f"{self.cell}: raised {spread(self.raised)}, named {spread(self.named)}, final {spread(self.final)}; "
            f"{told}; accused {self.accused}, "
            f"skipped {self.skipped}, calls {self.calls}, stuck {self.stuck}, info {_times(self.info)}, "
            f"domstats {_times(self.domstats)}, CPU {self.cpu:.0f} %"
        )
        return said + "".join(f"\n    wrong: {sentence}" for sentence in self.wrong)

    @property
    def row(self) -> tuple[str, ...]:
        """For a table, see HEADINGS."""
        numbers = (self.accused, self.skipped, self.calls, self.stuck)
        causes = " ".join(f"{cause}:{number}" for cause, number in sorted(self.causes.items()))
        ratios = (_ratio(self.info), _ratio(self.domstats))
        times = (spread(self.raised), spread(self.named), spread(self.final))
        cell = (str(self.cell.guests), str(self.cell.mix), str(self.cell.policy), self.cell.channel)
        return (*cell, *times, causes, *map(str, numbers), *ratios, "no" if self.wrong else "yes")


HEADINGS = (
    *("guests", "mix", "policy", "channel", "raised", "named", "final", "causes", "accused", "skipped"),
    *("calls", "stuck", "info", "domstats", "as it must be"),
)


def spread(seconds: Sequence[float]) -> str:
    """First, median and last of them, and how many."""
    if not seconds:
        return "-"
    return f"{min(seconds):.1f}/{statistics.median(seconds):.1f}/{max(seconds):.1f} ({len(seconds)})"


def _ratio(times: tuple[float, float]) -> str:
    return "-" if math.isnan(times[0]) or math.isnan(times[1]) else f"{times[1] / times[0]:.2f}"


def _times(times: tuple[float, float]) -> str:
    return "-" if math.isnan(times[1]) else f"{1000 * times[0]:.1f} → {1000 * times[1]:.1f} ms"


@dataclass
class Host:
    """A node and its stand-ins, which are asked for nothing until a cell says so."""

    node: Node
    transport_url: str
    consumer: ConsumerProcess
    folder: Path
    guests: list[StandIn] = field(default_factory=list)

    def run(self, cell: Cell, patience: float = 120.0) -> Outcome:
        """One run, with a worker that knows of no other. patience: so many seconds after it must have been said, what
        was not said by then is not waited for."""
        self._grow(cell.guests + LIVING)
        guests = self.guests[: cell.guests + LIVING]
        folder = self.folder / f"crowd-{next(_NUMBERS)}"
        self._ask(guests, cell)
        with Bystander(self.node.uri) as bystander, Tap(self.node.folder / "run") as tap:
            alone = _alone(bystander, cell)
            worker = WorkerProcess(folder, uri=tap.uri, transport_url=self.transport_url, host=self.node.name)
            worker.where = self.node.inside  # where libvirt has put the application channels
            run = _Run(cell, guests, worker, self.consumer, tap)
            try:
                outcome = run.go(patience)
                run.judge_bystander(alone, bystander)
                return outcome
            finally:
                for guest in guests:
                    guest.go_on()
                worker.stop(30)

    def _grow(self, number: int) -> None:
        if number > len(self.guests):
            self.guests += stand_ins(self.node, number - len(self.guests), len(self.guests))

    def _ask(self, guests: list[StandIn], cell: Cell) -> None:
        """These have the policy, the others none; and nothing is left of what a worker before them did."""
        connection = libvirt.open(self.node.uri)
        flags = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
        knobs = {"channel": cell.channel, "action": "recover_unresponsive", **cell.policy.knobs}
        attributes = " ".join(f"{name}='{value}'" for name, value in knobs.items())
        wanted = f"<heartbeat version='1' heartbeat='true' {attributes}/>"
        refused = "<heartbeat version='1' heartbeat='false'/>"
        try:
            for guest in self.guests:
                domain = connection.lookupByUUIDString(guest.uuid)
                element = wanted if guest in guests else refused
                domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, element, "vmhb", metadata.VMHB, flags)
                domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, None, "vmhbs", metadata.STATE, flags)
                domain.setMemoryStatsPeriod(BALLOON_PERIOD, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        finally:
            connection.close()


def _alone(bystander: Bystander, cell: Cell) -> dict[str, list[float]]:
    """What another client's calls take while there is no worker."""
    bystander.statistics(cell.mix is not Mix.STOPPED)
    began = wait_until(lambda: bool(bystander.took("info", 0.0)), 30, "another client calls libvirtd")
    time.sleep(ALONE)
    return {what: bystander.took(what, began) for what in CALLED}


def _named(told: Sequence[Notification]) -> Notification | None:
    """Of what was said of one, the first from which on its cause was the last."""
    since = list(itertools.takewhile(lambda one: one.cause == told[-1].cause, reversed(told)))
    return since[-1] if since else None


def _final(told: Sequence[Notification]) -> Notification | None:
    """And the first of these for which no evidence was waited for. That a QEMU may still go on, and is given its time,
    is no evidence about what it is now."""
    named = _named(told)
    if named is None or named.cause == QEMU.agent:
        return named
    return next((one for one in told[told.index(named) :] if one.withheld != "evidence"), None)


class _Run:
    def __init__(
        self, cell: Cell, guests: list[StandIn], worker: WorkerProcess, consumer: ConsumerProcess, tap: Tap
    ) -> None:
        self._cell = cell
        self._consumer = consumer
        self._guests = guests
        deeds = [*cell.deeds, *[None] * LIVING]
        self._deeds = {guest.uuid: deed for guest, deed in zip(guests, deeds, strict=True) if deed is not None}
        self._living = [guest for guest in guests if guest.uuid not in self._deeds]
        self._worker = worker
        self._tap = tap
        self._outcome = Outcome(cell)
        self._meanwhile = (0.0, 0.0)  # from the first deed to the end
        self._done: dict[str, float] = {}  # when it was, to each

    def go(self, patience: float) -> Outcome:
        self._worker.start()
        for guest in self._guests:
            self._worker.wait_known(guest.uuid, 180)
        time.sleep(self._cell.policy.interval)
        cpu, since = self._worker.cpu, time.monotonic()
        self._do()
        last = max(self._done.values())
        self._wait(last + max(self._cell.final_within(deed) for deed in self._deeds.values()) + patience)
        self._outcome.cpu = 100 * (self._worker.cpu - cpu) / (time.monotonic() - since)
        self._watch(time.monotonic() + QUIET)
        self._meanwhile = since, time.monotonic()
        self._note(since)
        self._judge()
        return self._outcome

    def judge_bystander(self, alone: Mapping[str, list[float]], bystander: Bystander) -> None:
        """What its calls took, beside what they take alone."""
        for what in CALLED:
            beside = bystander.took(what, *self._meanwhile)
            if not alone[what] or not beside:
                continue
            times = statistics.median(alone[what]), statistics.median(beside)
            setattr(self._outcome, what, times)
            if len(beside) >= ENOUGH and times[1] > max(SLOWER * times[0], times[0] + NOISE):
                slower = f"{times[1] / times[0]:.1f} times as long as alone, and {SLOWER:g} is the most"
                self._wrong(f"another client's {what} took {slower}")

    def _do(self) -> None:
        begin = time.monotonic()
        for number, guest in enumerate(one for one in self._guests if one.uuid in self._deeds):
            time.sleep(max(0.0, begin + number * self._cell.apart - time.monotonic()))
            self._done[guest.uuid] = self._deeds[guest.uuid].do(guest)

    def _wait(self, deadline: float) -> None:
        while time.monotonic() < deadline and not all(self._is_final(uuid) for uuid in self._deeds):
            self._look_at_the_living()
            time.sleep(min(0.5, self._cell.policy.interval / 2))

    def _watch(self, until: float) -> None:
        while time.monotonic() < until:
            self._look_at_the_living()
            time.sleep(min(0.5, self._cell.policy.interval / 2))

    def _look_at_the_living(self) -> None:
        """The last few, who live in every cell: with all of a hundred it would be the asking that is measured."""
        for guest in self._living[-LIVING:]:
            try:
                skipped = int(self._worker.show(guest.uuid).get("skipped", 0))
            except LabError:  # pragma: no cover - it does not serve RPC
                continue
            self._outcome.skipped = max(self._outcome.skipped, skipped)

    def _told(self, uuid: str) -> list[Notification]:
        return self._consumer.faults(uuid, self._done.get(uuid, 0.0))

    def _is_final(self, uuid: str) -> bool:
        final = _final(self._told(uuid))
        return final is not None and final.cause == self._deeds[uuid].cause(self._cell.channel)

    def _note(self, since: float) -> None:
        outcome = self._outcome
        for uuid, at in self._done.items():
            told = self._told(uuid)
            raised = [one.at - at for one in told if one.event_type == "vmhb.fault.raised"]
            outcome.raised += raised[:1]
            outcome.causes[told[-1].cause if told else "nothing"] += 1
            outcome.named += [one.at - at for one in (_named(told),) if one is not None]
            outcome.final += [one.at - at for one in (_final(told),) if one is not None]
        outcome.accused = sum(len(self._consumer.faults(guest.uuid, since)) for guest in self._living)
        outcome.calls = self._tap.most_calls()
        stopped = {uuid for uuid, deed in self._deeds.items() if deed is QEMU}
        outcome.stuck = self._tap.most_stuck(stopped, since)
        names = {guest.uuid: guest.name for guest in self._guests}
        told = self._consumer.faults(since=since)
        outcome.story = [f"{one.at - since:7.2f} {names.get(one.instance_uuid, one.host)} {one}" for one in told]

    # -- what must be

    def _judge(self) -> None:
        for deed in (KERNEL, AGENT, QEMU):
            uuids = [uuid for uuid, one in self._deeds.items() if one is deed]
            if uuids:
                self._judge_deed(deed, uuids)
        outcome = self._outcome
        for name, number, most in (
            ("faults of the living", outcome.accused, 0),
            ("beats of one of the living skipped in a row", outcome.skipped, self._cell.skipped_most),
            ("calls of ours in libvirtd at a time", outcome.calls, CALLS),
            ("calls of ours that wait for QEMUs that stand still", outcome.stuck, STUCK),
        ):
            if number > most:
                self._wrong(f"{number} {name}, and {most} is the most")

    def _judge_deed(self, deed: Deed, uuids: list[str]) -> None:
        cause = deed.cause(self._cell.channel)
        unraised = late = other = unsettled = 0
        for uuid in uuids:
            at, told = self._done[uuid], self._told(uuid)
            raised = next((one.at - at for one in told if one.event_type == "vmhb.fault.raised"), None)
            final = _final(told)
            unraised += raised is None
            late += raised is not None and raised > self._cell.raised_within(deed)
            other += final is None or final.cause != cause
            unsettled += final is not None and final.at - at > self._cell.final_within(deed)
            if any(one.event_type == "vmhb.fault.cleared" for one in told):
                self._wrong(f"the fault of one that is {cause} was cleared")
        for number, sentence in (
            (unraised, "never had a fault"),
            (late, f"had it later than {self._cell.raised_within(deed):g} s"),
            (other, "were not called that in the end, or with evidence still to come"),
            (unsettled, f"were finally called what they were later than {self._cell.final_within(deed):g} s"),
        ):
            if number:
                self._wrong(f"{number} of {len(uuids)} that are {cause} {sentence}")

    def _wrong(self, sentence: str) -> None:
        self._outcome.wrong.append(sentence)
