"""What a flavor and an image together ask for."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_vmhb.wanted_policy import TIMES, Asked, asked
from vmhb_common.model.policy import KNOBS, Channel, HeartbeatPolicy, parse

ON = {"hw:heartbeat": "true"}
FORBIDDEN = ("threshold", "action", "health_check", "panic_device", "shade")


def ask(flavor: Mapping[str, str], image: Mapping[str, str] | None = None) -> Asked | None:
    """The image's properties as Nova keeps them."""
    return asked(flavor, {f"image_{name}": value for name, value in (image or {}).items()})


def policy(wish: Asked | None) -> HeartbeatPolicy:
    """What the worker makes of it."""
    assert wish is not None
    parsed = parse(wish.knobs).policy
    assert parsed is not None
    return parsed


@pytest.mark.parametrize(
    "flavor",
    [
        {},
        {"hw:heartbeat": "false"},
        {"hw:heartbeat": "0", "hw:heartbeat_interval": "soon"},
        {"hw:heartbeat_grace": "1"},
    ],
)
def test_nobody_is_opted_in_by_an_image(flavor: Mapping[str, str]) -> None:
    """Only the flavor does that."""
    assert ask(flavor, {"hw_heartbeat": "true", "hw_heartbeat_channel": "application"}) is None


def test_the_flavor_in_its_own_words() -> None:
    """Nothing is filled in: what the flavor leaves open is the worker's to say."""
    assert ask({**ON, "hw:heartbeat_interval": "1e1", "hw:cpu_policy": "shared"}) == Asked(
        {"heartbeat": "true", "interval": "1e1"}, (Channel.AGENT,)
    )


def test_the_application_has_both_channels() -> None:
    """The agent's comes first, and is evidence."""
    wish = ask({**ON, "hw:heartbeat_channel": "Application"})
    assert wish is not None
    assert wish.channels == (Channel.AGENT, Channel.APPLICATION)


@pytest.mark.parametrize("flavor", [{"hw:heartbeat": "maybe"}, {**ON, "hw:heartbeat_channel": "vsock"}])
def test_a_flavor_that_makes_no_sense(flavor: Mapping[str, str]) -> None:
    """Nobody is monitored and no channel is made, but the words are handed on."""
    wish = ask(flavor, {"hw_heartbeat_channel": "application"})
    assert wish is not None
    assert not wish.channels
    assert wish.error == parse(wish.knobs).error
    assert wish.error


@pytest.mark.parametrize(
    ("word", "wanted"), [("true", True), ("Yes", True), ("1", True), ("false", False), (None, False)]
)
def test_a_panic_device_is_the_flavors_to_ask_for(word: str | None, wanted: bool) -> None:
    """It is handed on as any other knob; the image has no say, as about all that is no time."""
    flavor = {**ON} if word is None else {**ON, "hw:heartbeat_panic_device": word}
    wish = ask(flavor, {"hw_heartbeat_panic_device": "true"})
    assert wish is not None
    assert wish.panic_device is wanted
    assert wish.knobs.get("panic_device") == word
    assert policy(wish).panic_device is wanted
    assert "hw_heartbeat_panic_device" in wish.warnings[0]
    off = ask({**flavor, "hw:heartbeat_panic_device": "perhaps"})
    assert off is not None and off.error and not off.panic_device


@pytest.mark.parametrize("name", ["version", "xmlns", "a b", "Ünder", "a:b", "", "9"])
def test_a_name_that_is_no_attribute(name: str) -> None:
    """Is left out, and said: it cannot be written, or it would stand for something else."""
    wish = ask({**ON, f"hw:heartbeat_{name}": "1"})
    assert wish is not None
    assert wish.knobs == {"heartbeat": "true"}
    assert wish.warnings == (f"extra spec 'hw:heartbeat_{name}' is ignored",)


def test_a_knob_of_a_newer_worker() -> None:
    """Is handed on: the worker says that it does not know it, or does."""
    assert ask({**ON, "hw:heartbeat_shade": "green"}) == Asked(
        {"heartbeat": "true", "shade": "green"}, (Channel.AGENT,)
    )


@pytest.mark.parametrize("word", ["false", "No", "0"])
def test_an_image_opts_out(word: str) -> None:
    """And nothing else of it counts."""
    assert ask({**ON, "hw:heartbeat_channel": "application"}, {"hw_heartbeat": word}) == Asked({"heartbeat": "false"})


@pytest.mark.parametrize(
    ("flavor", "image", "knob", "value"),
    [
        # The flavor says it, and the image more.
        ({"interval": "10"}, {"interval": "30"}, "interval", 30.0),
        ({"timeout": "2"}, {"timeout": "2.5"}, "timeout", 2.5),
        ({"grace": "60"}, {"grace": "600"}, "grace", 600.0),
        # The flavor leaves it open: the table's default counts.
        ({}, {"interval": "30"}, "interval", 30.0),
        ({}, {"timeout": "6"}, "timeout", 6.0),
        ({"interval": "2"}, {"timeout": "3"}, "timeout", 3.0),
        # A grace of 0 is the longest of all.
        ({"grace": "60"}, {"grace": "0"}, "grace", 0.0),
        ({"grace": "0"}, {"grace": "86400"}, "grace", 0.0),
        # The image says less.
        ({"interval": "10"}, {"interval": "9.9"}, "interval", 10.0),
        ({}, {"interval": "5"}, "interval", 10.0),
        ({}, {"timeout": "4"}, "timeout", 5.0),
        ({}, {"grace": "1"}, "grace", 600.0),
        # The image makes no sense, or goes beyond the bounds.
        ({}, {"interval": "soon"}, "interval", 10.0),
        ({}, {"interval": "99999"}, "interval", 10.0),
        # The agent channel's own bound is not undercut: 1 s is what the flavor's 0.5 s come to.
        ({"interval": "0.5"}, {"interval": "0.9"}, "interval", 1.0),
        ({"interval": "0.5", "channel": "application"}, {"interval": "0.9"}, "interval", 0.9),
        # A longer interval takes the default of the time-out with it, and the image may add to that.
        ({"interval": "2"}, {"interval": "4", "timeout": "3"}, "timeout", 4.0),
    ],
)
def test_an_image_lengthens_times(flavor: Mapping[str, str], image: Mapping[str, str], knob: str, value: float) -> None:
    """Never does it shorten them."""
    extra_specs = {**ON, **{f"hw:heartbeat_{name}": text for name, text in flavor.items()}}
    wish = ask(extra_specs, {f"hw_heartbeat_{name}": text for name, text in image.items()})
    assert getattr(policy(wish), knob) == value


def test_what_an_image_may_not_say() -> None:
    """One warning for all of it, however much there is, and no text of the image's runs away with the log."""
    wish = ask(ON, {f"hw_heartbeat_{name}": "1" for name in (*FORBIDDEN, "x\n" * 500)})
    assert wish is not None
    assert wish.knobs == {"heartbeat": "true"}
    (warning,) = wish.warnings
    assert "hw_heartbeat_action, hw_heartbeat_health_check" in warning
    assert "\n" not in warning
    assert len(warning) < 400


def test_an_image_that_makes_no_sense() -> None:
    """Changes nothing, and is told off by its own names."""
    wish = ask(ON, {"hw_heartbeat": "perhaps", "hw_heartbeat_channel": "vsock"})
    assert wish is not None
    assert (wish.knobs, wish.channels) == ({"heartbeat": "true"}, (Channel.AGENT,))
    assert wish.warnings == (
        "an image property is ignored: hw_heartbeat is 'perhaps': say true or false",
        "an image property is ignored: hw_heartbeat_channel is 'vsock': say one of agent, application",
    )


def test_what_an_image_may_say() -> None:
    """Who is asked in the guest, and longer times; a time that is the flavor's changes nothing, and is no mistake."""
    wish = ask(
        {**ON, "hw:heartbeat_interval": "10"},
        {"hw_heartbeat_channel": "application", "hw_heartbeat_interval": "10", "hw_heartbeat_timeout": "9"},
    )
    assert wish == Asked(
        {"heartbeat": "true", "interval": "10", "channel": "application", "timeout": "9"},
        (Channel.AGENT, Channel.APPLICATION),
    )


def test_what_else_nova_keeps_of_an_image_is_no_matter() -> None:
    """Its other properties, and what merely begins alike."""
    kept = {"image_hw_disk_bus": "virtio", "image_hw_heartbeats": "false", "owner": "somebody"}
    assert asked(ON, kept) == Asked({"heartbeat": "true"}, (Channel.AGENT,))


WORDS = st.sampled_from(["true", "false", "agent", "application", "0", "0.3", "1", "7", "3600", "86400", "soon", ""])
NAMES = st.sampled_from(["", *(f"_{knob.name}" for knob in KNOBS[1:]), *(f"_{name}" for name in FORBIDDEN)])


@given(st.dictionaries(NAMES, WORDS), st.dictionaries(NAMES, WORDS))
def test_whatever_an_image_says(flavor: Mapping[str, str], image: Mapping[str, str]) -> None:
    """Against the flavor alone: nobody opted in, no time shorter, nothing changed that is not the image's to change."""
    extra_specs = {f"hw:heartbeat{name}": value for name, value in flavor.items()}
    alone = ask(extra_specs)
    both = ask(extra_specs, {f"hw_heartbeat{name}": value for name, value in image.items()})
    if alone is None or alone.error:
        assert both == alone
        return
    theirs, ours = policy(both), policy(alone)
    if not theirs.heartbeat:
        assert image[""] in ("false", "0")
        return
    assert (theirs.threshold, theirs.health_check, theirs.action) == (ours.threshold, ours.health_check, ours.action)
    if theirs.channel is ours.channel:
        for knob in TIMES:
            longer = getattr(theirs, knob.name), getattr(ours, knob.name)
            assert longer[0] >= longer[1] or (knob.name == "grace" and longer[0] == 0)
