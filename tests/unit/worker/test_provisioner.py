"""What running domains are given, by the engine turned by hand: what is asked of the hypervisor, and what is said."""

from __future__ import annotations

import itertools
import logging
from datetime import datetime, timedelta, timezone

import pytest

from tests.unit.test_engine import ONE, QUICK, TWO, Bench, domain, well
from vmhb_worker.core.domain_xml import policy_element
from vmhb_worker.core.events import (
    DomainForgotten,
    DomainSeen,
    HypervisorDown,
    PlugChannel,
    Provisioned,
    Step,
    WritePolicy,
)
from vmhb_worker.core.pending_policies import LIFE, SETTLE

KNOBS = {"heartbeat": "true", "interval": "1", "timeout": "1"}
#: When the policy was seen that is sent: before the engine's time.
THEN = datetime(2026, 1, 1, tzinfo=timezone.utc)


def written(knobs: dict[str, str], observed_at: datetime = THEN) -> WritePolicy:
    """The step that gives a domain this policy."""
    return WritePolicy(policy_element(knobs, observed_at), observed_at)


WRITE, PLUG = written(KNOBS), PlugChannel()
WANTS = "channel='application'"


def with_controller(seen: DomainSeen, *more: str, state: str = "running") -> DomainSeen:
    """It has something to plug a channel into, and more devices."""
    devices = "<devices><controller type='virtio-serial'/>" + "".join(more)
    return DomainSeen(seen.uuid, seen.xml.replace("<devices>", devices), state, seen.reason, seen.boot)


PORT = "<channel type='unix'><target type='virtio' name='org.openstack.vmhb.0'/></channel>"


def configure(bench: Bench, *seen: object, uuid: str = ONE) -> None:
    """The call, and what libvirt then tells."""
    asked = len(bench.host.described)
    bench.ask("configure", instance_uuid=uuid, policy=KNOBS, observed_at=THEN)
    assert bench.host.described[asked:] == [uuid]
    show(bench, *seen)


def show(bench: Bench, *seen: object) -> None:
    """Let libvirt tell this."""
    for each in seen:
        bench.engine.post(each)
    bench.run(1)


def end(bench: Bench, step: Step, *, uuid: str = ONE, failure: str | None = None, again: bool = False) -> None:
    """The step under way ends."""
    show(bench, Provisioned(uuid, step, failure is None, failure, again))


def said(caplog: pytest.LogCaptureFixture, *levels: int) -> list[str]:
    """What it said of its steps."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "vmhb_worker.engine.provisioner" and record.levelno in (levels or (logging.WARNING,))
    ]


# -- configure


def test_a_bare_domain_is_given_its_policy_and_monitored() -> None:
    """From the call to heartbeats: the element is written once, and taken up as any other change of the domain."""
    bench = Bench()
    bench.up(domain(ONE, None))
    bench.run(1)
    configure(bench, domain(ONE, None))
    assert bench.host.steps == [(ONE, WRITE)]
    show(bench, domain(ONE, None))  # something else about it changed meanwhile
    described = len(bench.host.described)
    end(bench, WRITE)
    assert bench.host.described[described:] == [ONE]  # what was told while it was under way is asked again
    show(bench, domain(ONE, "interval='1' timeout='1'"))
    well(bench, ONE)
    assert bench.host.steps == [(ONE, WRITE)]


def test_a_policy_that_is_there_is_left_alone() -> None:
    """However often it is sent, while it is monitored, refused or opted out."""
    bench = Bench()
    bench.up(domain(ONE), domain(TWO, "heartbeat='false'"))
    for _ in range(2):
        configure(bench, domain(ONE))
        configure(bench, domain(TWO, "heartbeat='false'"), uuid=TWO)
    bench.run(60)
    show(bench, domain(ONE, None), domain(TWO, None))  # somebody took it out: not put back by what was sent long before
    assert bench.host.steps == []


def test_a_policy_sent_amid_a_hard_reboot_is_not_lost() -> None:
    """Nova defines the domain anew; the call may come before libvirt's news of that."""
    bench = Bench()
    bench.up(domain(ONE))
    configure(bench, domain(ONE))
    show(bench, domain(ONE, None, boot="b2"))
    assert bench.host.steps == [(ONE, WRITE)]


@pytest.mark.parametrize("seconds", [1.0, LIFE - 60, LIFE + 60])
def test_a_policy_waits_for_its_domain(seconds: float) -> None:
    """Until it is here and runs, for an hour."""
    bench = Bench()
    bench.up()
    configure(bench, DomainForgotten(ONE))
    show(bench, domain(ONE, None, boot=""))
    bench.run(seconds)
    paused = domain(ONE, None)
    show(bench, DomainSeen(ONE, paused.xml, "paused", "migration", "b1"))
    assert bench.host.steps == []
    show(bench, domain(ONE, None))
    assert bench.host.steps == ([(ONE, WRITE)] if seconds < LIFE else [])


def test_a_policy_that_makes_no_sense_is_written_and_then_said() -> None:
    """As the driver does: who looks at the domain sees what was asked, and the worker says what is wrong with it."""
    bench = Bench()
    bench.up()
    bench.ask("configure", instance_uuid=ONE, policy={"interval": "soon"}, observed_at=THEN)
    show(bench, domain(ONE, None))
    assert bench.host.steps == [(ONE, written({"interval": "soon"}))]


def test_a_resize_replaces_what_was_sent_for_the_old_flavor() -> None:
    """Two consumers or a backlog: whichever comes last, the newer flavor is what the instance is monitored by."""
    after = THEN + timedelta(seconds=30)
    old, new = {"interval": "3"}, {"interval": "2"}
    sent = ("interval='{}' observed_at='{}'".format(*each) for each in (("3", THEN), ("2", after)))
    has_old, has_new = (domain(ONE, attributes) for attributes in sent)
    bench = Bench()
    bench.up(domain(ONE, None))
    assert bench.ask("configure", instance_uuid=ONE, policy=old, observed_at=THEN)
    show(bench, domain(ONE, None))
    end(bench, written(old))
    show(bench, has_old)
    well(bench, ONE)
    assert bench.ask("configure", instance_uuid=ONE, policy=new, observed_at=after)
    show(bench, has_old)
    end(bench, written(new, after))
    show(bench, has_new)
    assert not bench.ask("configure", instance_uuid=ONE, policy=old, observed_at=THEN)
    show(bench, has_new, domain(ONE, None))
    assert bench.host.steps == [(ONE, written(old)), (ONE, written(new, after))]

    restarted = Bench()  # it knows only what the domain says
    restarted.up(has_new)
    assert restarted.ask("configure", instance_uuid=ONE, policy=old, observed_at=THEN)
    show(restarted, has_new)
    assert restarted.host.steps == []
    assert restarted.ask("show", instance_uuid=ONE)["policy"]["interval"] == "2"


def test_a_newer_flavor_waits_for_the_domain_to_run() -> None:
    """However long it is paused: that it carries the older flavor's policy is no reason to forget the newer one's."""
    after = THEN + timedelta(seconds=30)
    seen = domain(ONE, f"interval='3' observed_at='{THEN.isoformat()}'")
    paused = DomainSeen(ONE, seen.xml, "paused", "migration", "b1")
    bench = Bench()
    bench.up(paused)
    bench.ask("configure", instance_uuid=ONE, policy=KNOBS, observed_at=after)
    show(bench, paused)
    bench.run(SETTLE + 60)
    show(bench, seen)
    assert bench.host.steps == [(ONE, written(KNOBS, after))]


@pytest.mark.parametrize("observed_at", [None, THEN + timedelta(days=365)], ids=["not said", "ahead"])
def test_a_policy_is_no_newer_than_when_it_came(observed_at: datetime | None) -> None:
    """An older caller's has no time; a clock that is ahead must not outlast what is sent afterwards."""
    bench = Bench()
    bench.up()
    came = bench.clock.wall()
    bench.ask("configure", instance_uuid=ONE, policy=KNOBS, observed_at=observed_at)
    show(bench, domain(ONE, None))
    assert bench.host.steps == [(ONE, written(KNOBS, came))]
    assert bench.ask("configure", instance_uuid=ONE, policy=KNOBS, observed_at=bench.clock.wall())


# -- the channel


def test_a_missing_channel_is_plugged_in_once() -> None:
    """Not again while that is under way, nor once it is there."""
    bench = Bench()
    lacking = with_controller(domain(ONE, WANTS))
    bench.up(lacking)
    bench.run(1)
    assert bench.host.steps == [(ONE, PLUG)]
    show(bench, lacking)
    end(bench, PLUG)
    show(bench, with_controller(domain(ONE, WANTS), PORT))
    configure(bench, with_controller(domain(ONE, WANTS), PORT))
    bench.run(60)
    assert bench.host.steps == [(ONE, PLUG)]
    show(bench, with_controller(domain(ONE, WANTS, boot="b2")))  # Nova wrote its XML anew
    assert bench.host.steps == [(ONE, PLUG)] * 2


def test_a_policy_that_was_sent_may_want_the_channel() -> None:
    """One step after the other."""
    bench = Bench()
    bench.up(with_controller(domain(ONE, None)))
    bench.ask("configure", instance_uuid=ONE, policy={"channel": "application"})
    show(bench, with_controller(domain(ONE, None)))
    (_, write) = bench.host.steps[0]
    show(bench, with_controller(domain(ONE, WANTS)))  # libvirt's news of it overtakes our own
    assert len(bench.host.steps) == 1
    end(bench, write)
    show(bench, with_controller(domain(ONE, WANTS)))
    assert bench.host.steps[1:] == [(ONE, PLUG)]


def test_what_cannot_be_plugged_in_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Why, and what to do about it: once per instance and reason, however often it is seen."""
    bench = Bench()
    bench.up(domain(ONE, WANTS), domain(TWO, WANTS))
    show(bench, domain(ONE, WANTS), domain(ONE, WANTS, boot="b2"), DomainForgotten(ONE), domain(ONE, WANTS))
    configure(bench, domain(ONE, WANTS))
    one, two = said(caplog)
    assert ONE in one and "no virtio-serial controller" in one and "nova-vmhb-driver install" in one
    assert TWO in two
    assert bench.host.steps == []
    show(bench, domain(ONE, WANTS.replace("'application'", "'agent'")))  # it wants none any more: fine
    assert len(said(caplog)) == 2


# -- what goes wrong


def test_what_cannot_be_done_now_is_tried_again_less_and_less(caplog: pytest.LogCaptureFixture) -> None:
    """Somebody else's job is in the way: said once; tried until it is done, at ever longer intervals."""
    bench = Bench()
    lacking = with_controller(domain(ONE, WANTS))
    bench.up(lacking)
    bench.run(1)
    tried = []
    for number in range(1, 12):
        assert len(bench.host.steps) == number
        tried.append(bench.clock.now)
        described = len(bench.host.described)
        end(bench, PLUG, failure="a job", again=True)
        bench.run(1000, until=lambda seen=described: len(bench.host.described) > seen)  # type: ignore[misc]
        show(bench, lacking)
    pauses = [round(later - sooner, -1) for sooner, later in itertools.pairwise(tried)]
    assert 10 <= pauses[0] <= 20
    assert pauses == sorted(pauses) and 600 <= pauses[-1] <= 620
    assert len(said(caplog)) == 1
    end(bench, PLUG)
    show(bench, with_controller(domain(ONE, WANTS), PORT))
    described = len(bench.host.described)
    bench.run(1000)
    assert len(bench.host.described) == described


def test_what_failed_is_left_until_the_next_boot_or_call(caplog: pytest.LogCaptureFixture) -> None:
    """A guest is not pestered with what its libvirt refuses."""
    bench = Bench()
    lacking = with_controller(domain(ONE, WANTS))
    bench.up(lacking)
    bench.run(1)
    end(bench, PLUG, failure="no free port")
    show(bench, lacking)
    bench.run(1000)
    assert len(bench.host.steps) == 1
    show(bench, with_controller(domain(ONE, WANTS, boot="b2")))
    assert len(bench.host.steps) == 2
    end(bench, PLUG, failure="no free port")
    configure(bench, with_controller(domain(ONE, WANTS, boot="b2")))
    assert len(bench.host.steps) == 3
    end(bench, PLUG, failure="no free port")
    (line,) = said(caplog)
    assert "no free port" in line and "libvirtd's log" in line


def test_what_somebody_else_did_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing was missing any more, or the domain stopped meanwhile."""
    bench = Bench()
    bench.up(with_controller(domain(ONE, WANTS)))
    bench.run(1)
    show(bench, Provisioned(ONE, PLUG, False))
    assert said(caplog, logging.INFO, logging.WARNING) == []


def test_a_suspect_is_left_alone() -> None:
    """While a verdict waits for what the domain answers, nothing else is asked of it."""
    bench = Bench()
    bench.up(domain(ONE))
    well(bench, ONE)
    bench.host.dead.add(ONE)
    instance = bench.engine._roster.get(ONE)
    assert instance is not None
    bench.run(20, until=lambda: instance.monitor.probing)
    view = bench.engine._roster.read(with_controller(domain(ONE, WANTS))).view
    assert view is not None
    policy = bench.engine._roster.read(domain(ONE, WANTS)).parsed.policy
    bench.engine._provisioner.seen(domain(ONE, WANTS), view, policy, bench.clock.now)
    assert bench.host.steps == []
    described = len(bench.host.described)
    bench.run(30)
    assert bench.host.described[described:]


def test_libvirt_away_costs_a_wish_nothing() -> None:
    """It is applied when libvirt is back."""
    bench = Bench()
    bench.up(domain(ONE, None))
    bench.engine.post(HypervisorDown("it was stopped"))
    bench.run(1)
    configure(bench)
    bench.run(60)
    bench.up(domain(ONE, None))
    bench.run(1)
    assert bench.host.steps == [(ONE, WRITE)]


# -- silences that are announced


def test_an_end_that_overtook_its_start_refuses_it() -> None:
    """Several threads take the calls: the start may come last, and nobody would end what it begins."""
    bench = Bench()
    bench.up(domain(ONE, QUICK))
    well(bench, ONE)
    began = bench.clock.wall()
    assert not bench.ask("end_silence", instance_uuid=ONE, key="req-1", observed_at=began + timedelta(seconds=5))
    assert not bench.ask(
        "expect_silence", instance_uuid=ONE, key="req-1", reason="reboot", timeout=600.0, observed_at=began
    )
    assert bench.ask("show", instance_uuid=ONE)["silences"] == {}


def test_a_hint_that_waited_too_long_in_its_queue_does_nothing() -> None:
    """A worker that was away finds what Nova did meanwhile, and has long done: over, and silenced for no time."""
    bench = Bench()
    bench.up(domain(ONE, QUICK))
    well(bench, ONE)
    long_ago = bench.clock.wall() - timedelta(seconds=601)
    for uuid in (ONE, TWO):
        assert not bench.ask(
            "expect_silence", instance_uuid=uuid, key="req-1", reason="reboot", timeout=600.0, observed_at=long_ago
        )
    show(bench, domain(TWO, QUICK))
    for uuid in (ONE, TWO):
        assert bench.ask("show", instance_uuid=uuid)["silences"] == {}


def test_a_hint_for_an_absent_instance_expires() -> None:
    """At its own end, whether the instance has come or not."""
    bench = Bench()
    bench.up()
    bench.run(1)
    for uuid in (ONE, TWO):
        assert bench.ask(
            "expect_silence", instance_uuid=uuid, key="r", reason="resize", timeout=60.0, observed_at=bench.clock.wall()
        )
    show(bench, domain(ONE, QUICK))
    assert bench.ask("show", instance_uuid=ONE)["silences"] == {"hint:r": "resize"}
    bench.run(60)
    show(bench, domain(TWO, QUICK))
    for uuid in (ONE, TWO):
        assert bench.ask("show", instance_uuid=uuid)["silences"] == {}


def test_a_clock_that_is_ahead_makes_no_silence_longer() -> None:
    """A sender whose clock is a year ahead would silence an instance for a year."""
    bench = Bench()
    bench.up(domain(ONE, QUICK))
    well(bench, ONE)
    ahead = bench.clock.wall() + timedelta(days=365)
    assert bench.ask("expect_silence", instance_uuid=ONE, key="r", reason="x", timeout=60.0, observed_at=ahead)
    bench.run(62)
    assert bench.ask("show", instance_uuid=ONE)["silences"] == {}
