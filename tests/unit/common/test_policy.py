"""From a flavor's words to a policy."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmhb_common.model.policy import (
    KNOB,
    KNOBS,
    MAX_AGENT_TIMEOUT,
    Action,
    Channel,
    HeartbeatPolicy,
    Kind,
    Limits,
    as_knobs,
    convert,
    knobs_of_extra_specs,
    parse,
)

APPLICATION = {"heartbeat": "true", "channel": "application"}

#: knob, text, what comes of it. On the application channel, whose interval has the wider bounds.
UNDERSTOOD: list[tuple[str, str, Any]] = [
    ("heartbeat", "true", True),
    ("heartbeat", " Yes ", True),
    ("heartbeat", "1", True),
    ("heartbeat", "ON", True),
    ("heartbeat", "False", False),
    ("heartbeat", "0", False),
    ("heartbeat", "n", False),
    ("channel", "Agent", Channel.AGENT),
    ("channel", "application", Channel.APPLICATION),
    ("interval", "0.2", 0.2),
    ("interval", "3600", 3600.0),
    ("interval", "1e1", 10.0),
    ("timeout", "0.1", 0.1),
    ("timeout", "300", 300.0),
    ("threshold", "1", 1),
    ("threshold", " 100 ", 100),
    ("grace", "0", 0.0),
    ("grace", "86400", 86400.0),
    ("health_check", "t", True),
    ("action", "alarm", Action.ALARM),
    ("action", "RECOVER", Action.RECOVER),
    ("action", "recover_unresponsive", Action.RECOVER_UNRESPONSIVE),
]
CLAMPED: list[tuple[str, str, Any]] = [
    ("interval", "0.1", 0.2),
    ("interval", "-5", 0.2),
    ("interval", "3601", 3600.0),
    ("timeout", "0", 0.1),
    ("timeout", "1e9", 300.0),
    ("threshold", "0", 1),
    ("threshold", "-3", 1),
    ("threshold", "101", 100),
    ("grace", "-1", 0.0),
    ("grace", "86401", 86400.0),
]
NONSENSE: list[tuple[str, str]] = [
    ("heartbeat", ""),
    ("heartbeat", "maybe"),
    ("heartbeat", "2"),
    ("channel", "tcp"),
    ("channel", ""),
    ("interval", "ten"),
    ("interval", "10s"),
    ("interval", ""),
    ("interval", "nan"),
    ("interval", "inf"),
    ("interval", "1e999"),
    ("timeout", "-inf"),
    ("threshold", "3.0"),
    ("threshold", "three"),
    ("threshold", "9" * 400),
    ("threshold", "9" * 5000),
    ("grace", "never"),
    ("health_check", "if possible"),
    ("action", "reboot"),
    ("action", "x" * 1000),
]


@pytest.mark.parametrize(("name", "text", "value"), UNDERSTOOD)
def test_a_value_within_bounds_is_taken_without_a_word(name: str, text: str, value: Any) -> None:
    """What an operator may write, in any case and with blanks around it, means what it says."""
    parsed = parse({**APPLICATION, name: text})
    assert parsed.error is None
    assert parsed.warnings == ()
    assert getattr(parsed.policy, name) == value


@pytest.mark.parametrize(("name", "text", "value"), CLAMPED)
def test_a_value_out_of_bounds_is_clamped_with_a_warning(name: str, text: str, value: Any) -> None:
    """Extra specs are not always validated by Nova: out of bounds is bent, said, and monitored all the same."""
    parsed = parse({**APPLICATION, name: text})
    assert parsed.error is None
    assert getattr(parsed.policy, name) == value
    assert type(getattr(parsed.policy, name)) is type(value)
    assert len(parsed.warnings) == 1
    assert parsed.warnings[0].startswith(f"hw:heartbeat_{name} is ")
    assert "out of bounds" in parsed.warnings[0]


@pytest.mark.parametrize(("name", "text"), NONSENSE)
def test_a_value_that_makes_no_sense_disables_with_a_clear_error(name: str, text: str) -> None:
    """No policy, and a short sentence that names the knob and the remedy; never an exception."""
    parsed = parse({**APPLICATION, name: text})
    assert parsed.policy is None
    assert parsed.error is not None
    assert parsed.error.startswith(KNOB[name].extra_spec + " is ")
    assert ": say " in parsed.error
    assert len(parsed.error) < 200


def test_nothing_asked_is_not_monitored() -> None:
    """Monitoring is opted into."""
    assert parse({}).policy == HeartbeatPolicy(heartbeat=False)


def test_the_defaults_are_those_of_the_contract() -> None:
    """DESIGN 4.1: ten seconds, three misses, ten minutes' grace, nothing but an alarm."""
    policy = parse({"heartbeat": "true"}).policy
    assert policy == HeartbeatPolicy(True, Channel.AGENT, 10.0, 5.0, 3, 600.0, False, Action.ALARM)


@pytest.mark.parametrize(("interval", "timeout"), [("1", 1.0), ("2.5", 2.5), ("5", 5.0), ("60", 5.0), ("0.1", 1.0)])
def test_the_timeout_defaults_to_the_interval_at_most_five_seconds(interval: str, timeout: float) -> None:
    """It follows the interval that is in force, after clamping."""
    policy = parse({"heartbeat": "true", "interval": interval}).policy
    assert policy is not None
    assert policy.timeout == timeout


def test_the_agent_channel_is_asked_once_a_second_at_most() -> None:
    """It goes through libvirtd, which is Nova's too."""
    parsed = parse({"heartbeat": "true", "interval": "0.5"})
    assert parsed.policy is not None
    assert parsed.policy.interval == 1.0
    assert parsed.warnings == ("hw:heartbeat_interval is 0.5, out of bounds 1 to 3600: taken as 1",)


@pytest.mark.parametrize(("timeout", "taken"), [("9.5", 9.5), ("10", 10.0), ("10.5", 10.0), ("300", 10.0)])
def test_the_agent_channel_waits_ten_seconds_at_most(timeout: str, taken: float) -> None:
    """Nova's own commands would have to wait as long: whoever asks for more is told. Applications are not bound."""
    agent = parse({"heartbeat": "true", "interval": "60", "timeout": timeout})
    application = parse({**APPLICATION, "interval": "60", "timeout": timeout})
    assert agent.policy is not None
    assert application.policy is not None
    assert agent.policy.timeout == taken
    assert application.policy.timeout == float(timeout)
    clamped = f"hw:heartbeat_timeout is {float(timeout):g}, out of bounds 0.1 to 10: taken as 10"
    assert agent.warnings == ((clamped,) if taken != float(timeout) else ())
    assert application.warnings == ()


def test_the_operators_default_is_bounded_on_the_agent_channel_too() -> None:
    """Whoever says it: nobody holds an agent for longer."""
    bent = parse({"heartbeat": "true"}, Limits(defaults={"timeout": 30.0}))
    assert bent.policy is not None
    assert bent.policy.timeout == MAX_AGENT_TIMEOUT
    assert len(bent.warnings) == 1


def test_an_unknown_knob_is_ignored_with_a_warning() -> None:
    """A flavor may be newer than the worker; what is said about it is fit for a log line."""
    parsed = parse({"heartbeat": "true", "colour": "blue", "x\n2026 ERROR": "1"})
    assert parsed.policy is not None
    assert len(parsed.warnings) == 2
    assert "'hw:heartbeat_colour'" in parsed.warnings[0]
    assert "threshold" in parsed.warnings[0]
    assert not any("\n" in warning for warning in parsed.warnings)


def test_the_operator_sets_defaults_and_bounds() -> None:
    """`[policy]`: where the flavor says nothing, the operator's default; and no interval below his bound."""
    limits = Limits(defaults={"interval": 20.0, "action": "recover", "timeout": 7.0, "grace": None}, min_interval=5.0)
    policy = parse({"heartbeat": "true"}, limits).policy
    assert policy == HeartbeatPolicy(True, Channel.AGENT, 20.0, 7.0, 3, 600.0, False, Action.RECOVER)
    fast = parse({"heartbeat": "true", "interval": "2"}, limits)
    assert fast.policy is not None
    assert fast.policy.interval == 5.0
    assert len(fast.warnings) == 1


def test_the_table_of_knobs_is_the_policy() -> None:
    """One row per field, in one order, with a help text; the defaults lie within the bounds."""
    assert [knob.name for knob in KNOBS] == list(HeartbeatPolicy.__slots__)
    assert all(knob.help.endswith(".") for knob in KNOBS)
    assert [knob.extra_spec for knob in KNOBS][:2] == ["hw:heartbeat", "hw:heartbeat_channel"]
    for knob in KNOBS:
        if knob.kind in (Kind.SECONDS, Kind.COUNT) and knob.default is not None:
            assert knob.minimum is not None
            assert knob.maximum is not None
            assert knob.minimum <= knob.default <= knob.maximum


@pytest.mark.parametrize(("name", "text", "value"), UNDERSTOOD)
def test_a_single_value_can_be_checked(name: str, text: str, value: Any) -> None:
    """Validators and command lines look at one knob at a time, by the same table."""
    assert convert(KNOB[name], text) == value


@pytest.mark.parametrize(("name", "text"), [*NONSENSE, *((name, text) for name, text, _ in CLAMPED)])
def test_a_single_value_that_is_nonsense_or_out_of_bounds_is_refused(name: str, text: str) -> None:
    """Where somebody can still correct it, nothing is bent: the error says what may be said."""
    with pytest.raises(ValueError, match=f"^{KNOB[name].extra_spec} is .*: say "):
        convert(KNOB[name], text)


def test_only_our_extra_specs_are_taken() -> None:
    """Others' are none of our business; a misspelt one of ours is, so that somebody hears of it."""
    specs = {"hw:heartbeat": "true", "hw:heartbeat_interval": "5", "hw:heartbeats": "1", "hw:cpu_policy": "dedicated"}
    assert knobs_of_extra_specs(specs) == {"heartbeat": "true", "interval": "5"}
    assert knobs_of_extra_specs({"hw:heartbeat_colour": "blue"}) == {"colour": "blue"}


POLICIES = st.builds(
    HeartbeatPolicy,
    heartbeat=st.just(True),
    channel=st.sampled_from(Channel),
    interval=st.floats(1.0, 3600.0),
    timeout=st.floats(0.1, MAX_AGENT_TIMEOUT),
    threshold=st.integers(1, 100),
    grace=st.floats(0.0, 86400.0),
    health_check=st.booleans(),
    action=st.sampled_from(Action),
)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(POLICIES | st.builds(replace, POLICIES, channel=st.just(Channel.APPLICATION), timeout=st.floats(0.1, 300.0)))
def test_a_policy_survives_being_written_down(policy: HeartbeatPolicy) -> None:
    """`as_knobs` is what goes into a domain's metadata: `parse` gives the very same policy back."""
    parsed = parse(as_knobs(policy))
    assert parsed.policy == policy
    assert parsed.warnings == ()


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from([*KNOB, "else"]) | st.text(), st.text() | st.integers().map(str)))
def test_no_words_make_the_parser_raise(asked: dict[str, str]) -> None:
    """A tenant's or operator's nonsense costs one instance its monitoring, never the worker anything."""
    parsed = parse(asked)
    assert (parsed.policy is None) == (parsed.error is not None)


@pytest.mark.parametrize(
    ("knob", "text", "says"),
    [
        ("heartbeat", "maybe", "hw:heartbeat is 'maybe': say true or false"),
        ("channel", "vsock", "hw:heartbeat_channel is 'vsock': say one of agent, application"),
        ("interval", "0.1", "hw:heartbeat_interval is '0.1': say a number of seconds, 0.2 to 3600"),
        ("interval", "nan", "hw:heartbeat_interval is 'nan': say a number of seconds, 0.2 to 3600"),
        ("threshold", "101", "hw:heartbeat_threshold is '101': say a whole number, 1 to 100"),
        ("threshold", "2.5", "hw:heartbeat_threshold is '2.5': say a whole number, 1 to 100"),
    ],
)
def test_a_value_by_itself_is_refused(knob: str, text: str, says: str) -> None:
    """Where somebody can still say it better, nothing is bent: the message names what is allowed."""
    with pytest.raises(ValueError, match=f"^{re.escape(says)}$"):
        convert(KNOB[knob], text)


@pytest.mark.parametrize(("knob", "text", "value"), UNDERSTOOD)
def test_a_value_by_itself_is_taken(knob: str, text: str, value: Any) -> None:
    """The bounds that depend on another knob are not its own: an interval of 0.2 s is one, on the right channel."""
    assert convert(KNOB[knob], text) == value
