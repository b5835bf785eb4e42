"""libvirt's words, and what they mean for a heartbeat."""

from __future__ import annotations

import pytest

from vmhb_common.model.causes import Cause
from vmhb_worker.core.events import (
    Arriving,
    Booted,
    Exit,
    InPostcopy,
    Panicked,
    Paused,
    Restored,
    Resumed,
    Stopped,
    Stuck,
)
from vmhb_worker.core.lifecycle import EVENTS, JOBS, STATES, event_of, event_of_state, excuses


def test_intent_is_no_failure() -> None:
    """A guest that powered off, or that somebody destroyed, saved or moved, is no fault; one whose QEMU died is."""
    exits = {
        detail: event.exit
        for (name, detail), event in EVENTS.items()
        if name == "stopped" and isinstance(event, Stopped)
    }
    assert exits == {
        "migrated": Exit.MOVED,
        "failed": Exit.FAILED,
        "crashed": Exit.FAILED,
        "shutdown": Exit.INTENT,
        "destroyed": Exit.INTENT,
        "saved": Exit.INTENT,
        "from_snapshot": Exit.INTENT,
        "*": Exit.UNKNOWN,
    }
    assert {reason: event.exit for (state, reason), event in STATES.items() if isinstance(event, Stopped)} == {
        "shutdown": Exit.INTENT,
        "destroyed": Exit.INTENT,
        "saved": Exit.INTENT,
        "from_snapshot": Exit.INTENT,
        "migrated": Exit.MOVED,
        "crashed": Exit.FAILED,
        "daemon": Exit.FAILED,
        # libvirtd was restarted since, or its host was; or an attempt to start it failed: of how it ended, nothing.
        "unknown": Exit.UNKNOWN,
        "failed": Exit.UNKNOWN,
        "*": Exit.UNKNOWN,
    }


def test_a_pause_is_a_silence_unless_qemu_paused_for_trouble() -> None:
    """An I/O error, a failed post-copy, a failed call and a watchdog that ran out are causes, not silences."""
    trouble = {
        detail: event_of("suspended", detail) for detail in ("ioerror", "postcopy_failed", "api_error", "watchdog")
    }
    assert trouble == {
        "ioerror": Stuck(Cause.PAUSED_IO_ERROR),
        "postcopy_failed": Stuck(Cause.PAUSED_FAILED),
        "api_error": Stuck(Cause.PAUSED_FAILED),
        "watchdog": Stuck(Cause.GUEST_HUNG),
    }
    for detail in ("paused", "migrated", "restored", "from_snapshot", "postcopy"):
        assert isinstance(event_of("suspended", detail), Paused), detail
    assert isinstance(event_of("pmsuspended", "disk"), Paused)


def test_how_a_domain_started_says_whether_its_guest_booted() -> None:
    """A guest that was restored, migrated or woken goes on where it was; any other start is a boot."""
    assert event_of("started", "booted") == Booted()
    assert event_of("started", "migrated") == Arriving()
    assert event_of("started", "restored") == event_of("started", "from_snapshot") == Restored()
    assert event_of("started", "wakeup") == event_of("resumed", "unpaused") == Resumed()


def test_what_a_newer_libvirt_invents_falls_back() -> None:
    """An unknown detail is taken as the usual one, but an end that nobody explains for nobody's wish; an unknown event
    tells nothing."""
    assert event_of("started", "from_the_moon") == Booted()
    assert event_of("suspended", "by_the_moon") == Paused("paused")
    unexplained = Stopped(Exit.UNKNOWN, "shut off, and libvirt does not know why")
    assert event_of("stopped", "by_the_moon") == event_of_state("shutoff", "by_the_moon") == unexplained
    assert event_of("crashed", "panicked") == Panicked()
    assert event_of("eclipsed", "wholly") is None
    assert event_of("defined", "updated") is None
    assert event_of_state("eclipsed", "wholly") is None


def test_a_domain_that_is_met_in_a_state_has_been_through_the_event() -> None:
    """The states say what the events would have said: the worker may have slept through them."""
    assert event_of_state("running", "booted") is None
    assert event_of_state("paused", "user") == Paused("paused", wish=True)
    assert event_of_state("running", "postcopy") == event_of("resumed", "postcopy") == InPostcopy()
    assert (
        event_of_state("running", "postcopy_failed")
        == event_of("resumed", "postcopy_failed")
        == InPostcopy(failed=True)
    )
    assert event_of_state("paused", "ioerror") == event_of("suspended", "ioerror")
    assert event_of_state("paused", "postcopy_failed") == event_of("suspended", "postcopy_failed")
    assert event_of_state("paused", "watchdog") == event_of("suspended", "watchdog")
    assert event_of_state("paused", "crashed") == event_of_state("crashed", "panicked") == Panicked()
    assert event_of_state("shutoff", "crashed") == Stopped(Exit.FAILED, "crashed")
    daemon = Stopped(Exit.FAILED, "ended by libvirtd, which could not reach its QEMU")
    assert event_of_state("shutoff", "daemon") == daemon
    assert event_of_state("shutoff", "migrated") == Stopped(Exit.MOVED, "migrated")
    assert event_of_state("shutoff", "destroyed") == Stopped(Exit.INTENT, "shut off")


@pytest.mark.parametrize("reason", ["unknown", "api_error", "by_the_moon"])
def test_a_pause_that_is_nobodys_wish_is_no_silence(reason: str) -> None:
    """QEMU's own internal errors have no reason; nobody would ever end such a pause."""
    assert event_of_state("paused", reason) == Stuck(Cause.PAUSED_FAILED, settles=reason != "api_error")


def test_only_jobs_that_can_stop_the_vcpus_excuse_a_guest() -> None:
    """A backup's may be there for weeks, while the guest runs; what libvirt does not tell accuses nobody."""
    assert {operation for operation, excuse in JOBS.items() if not excuse} == {"backup", "snapshot_delete"}
    assert excuses("unknown") and excuses("of the moon") and not excuses("backup")


def test_every_kind_has_a_row_for_details_unknown() -> None:
    """Or it is a kind of which the details are all named."""
    for table in (EVENTS, STATES):
        kinds = {kind for kind, _ in table}
        assert {kind for kind in kinds if (kind, "*") not in table} == set()
