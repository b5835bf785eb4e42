"""The expected absences of heartbeats."""

from __future__ import annotations

import math

from vmhb_worker.core.silences import Silence, Silences


def test_silences_add_up_and_the_last_one_ends_them() -> None:
    """The guest may be asked and judged again only when nobody expects it to be silent any more."""
    silences = Silences()
    silences.begin("paused", Silence("paused", None))
    silences.begin("hint:a", Silence("snapshot", 50.0))
    assert silences.told() == {"hint:a": "snapshot", "paused": "paused"}
    assert not silences.end("paused")
    assert silences
    assert silences.end("hint:a")
    assert not silences


def test_ending_what_has_not_begun_is_nothing() -> None:
    """Ends arrive twice, and for silences that were never heard of."""
    silences = Silences()
    assert not silences.end("job")
    silences.begin("paused", Silence("paused", None))
    assert not silences.end("job")
    assert "paused" in silences


def test_a_silence_expires_at_its_time() -> None:
    """Every silence that is not the state of a domain has an end of its own."""
    silences = Silences()
    silences.begin("a", Silence("one", 10.0))
    silences.begin("b", Silence("two", 20.0))
    assert silences.until == 10.0
    assert not silences.expire(9.9)
    assert not silences.expire(10.0)
    assert silences.told() == {"b": "two"}
    assert silences.expire(20.0)
    assert silences.until == math.inf


def test_a_silence_announced_again_takes_the_new_end() -> None:
    """A migration that goes on renews its silence; one without end is never due."""
    silences = Silences()
    silences.begin("job", Silence("migration", 10.0))
    silences.begin("job", Silence("migration", 30.0))
    assert silences.until == 30.0
    silences.begin("job", Silence("migration", None))
    assert silences.until == math.inf
    assert not silences.expire(1e9)


def test_asking_goes_on_only_where_every_silence_allows_it() -> None:
    """Just connected, the guest is asked but not judged; paused, it is left alone."""
    silences = Silences()
    assert silences.asking
    silences.begin("hypervisor", Silence("just connected", 10.0, ask=True))
    assert silences.asking
    silences.begin("paused", Silence("paused", None))
    assert not silences.asking
