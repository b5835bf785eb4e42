"""What can be asked for an instance: the one table of knobs, and how a flavor's words become a policy.

`KNOBS` is read by the parser below, the worker's `[policy]` options, the validators in nova-api, the docs and the
tests. To add a knob: one row here, one field in `HeartbeatPolicy`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from vmhb_common.model.words import StrEnum

#: What a knob's name starts with in a flavor's extra specs; `hw:heartbeat` itself is the knob `heartbeat`.
EXTRA_SPEC = "hw:heartbeat"
#: The namespace of the element that carries a policy in a domain's metadata: one attribute for each knob asked for.
POLICY_NS = "urn:openstack:vmhb:1"


class Channel(StrEnum):
    """Who must acknowledge."""

    AGENT = "agent"
    APPLICATION = "application"


#: The virtio-serial ports' names.
PORT_NAMES = {Channel.AGENT: "org.qemu.guest_agent.0", Channel.APPLICATION: "org.openstack.vmhb.0"}


class Action(StrEnum):
    """What reporters that can recover are asked for."""

    ALARM = "alarm"
    RECOVER = "recover"
    RECOVER_UNRESPONSIVE = "recover_unresponsive"


#: How many knobs are carried, from Nova's notification to the worker and into the domain, and how long a name or a text
#: may be (characters). There are fewer, but a newer consumer may know more; the length is Nova's own bound.
MAX_KNOBS = 32
MAX_KNOB = 255


class Kind(enum.Enum):
    """What a knob's text must be."""

    BOOLEAN = "boolean"
    SECONDS = "seconds"
    COUNT = "count"
    CHOICE = "choice"


@dataclass(frozen=True, slots=True)
class Knob:
    """One row of the table. `minimum` and `maximum` are inclusive; None where the kind has none."""

    name: str
    kind: Kind
    default: Any  # None: worked out from the others, see `HeartbeatPolicy.timeout`
    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    of_driver: bool = False  # only the driver hook can do it, when it writes the domain: no worker has a default for it

    @property
    def extra_spec(self) -> str:
        """The name in a flavor's extra specs."""
        return EXTRA_SPEC if self.name == "heartbeat" else f"{EXTRA_SPEC}_{self.name}"

    @property
    def allowed(self) -> str:
        """What may be said, in words that follow "say"."""
        if self.kind is Kind.BOOLEAN:
            return "true or false"
        if self.kind is Kind.CHOICE:
            return f"one of {', '.join(self.choices)}"
        what = "a whole number" if self.kind is Kind.COUNT else "a number of seconds"
        return f"{what}, {self.minimum:g} to {self.maximum:g}"


KNOBS: tuple[Knob, ...] = (
    Knob("heartbeat", Kind.BOOLEAN, False, "Monitor this instance."),
    Knob(
        "channel",
        Kind.CHOICE,
        Channel.AGENT,
        "Who must acknowledge: the stock guest agent, or the application through a port of its own.",
        choices=tuple(Channel),
    ),
    Knob(
        "interval",
        Kind.SECONDS,
        10.0,
        "Seconds between two challenges. On the agent channel at least 1.",
        minimum=0.2,
        maximum=3600.0,
    ),
    Knob(
        "timeout",
        Kind.SECONDS,
        None,
        "Seconds that one acknowledgement may take. By default the interval, at most 5."
        " On the agent channel at most 10.",
        minimum=0.1,
        maximum=300.0,
    ),
    Knob(
        "threshold",
        Kind.COUNT,
        3,
        "Consecutive misses that raise a fault: exactly this many.",
        minimum=1,
        maximum=100,
    ),
    Knob(
        "grace",
        Kind.SECONDS,
        600.0,
        "Seconds that an instance that never acknowledged has for its first acknowledgement, before an alarm says "
        "so; 0 waits for ever.",
        minimum=0.0,
        maximum=86400.0,
    ),
    Knob("health_check", Kind.BOOLEAN, False, "Ask for the application's health as well."),
    Knob(
        "action",
        Kind.CHOICE,
        Action.ALARM,
        "What to ask for: nothing but an alarm; recovery when QEMU or the guest's kernel is shown to be dead; or "
        "also when the kernel lives but the agent or the application is silent or unhealthy.",
        choices=tuple(Action),
    ),
    Knob(
        "panic_device",
        Kind.BOOLEAN,
        False,
        "Give the guest a panic device, through which its kernel tells that it dies; the driver hook does that, where "
        "the guest's architecture has one.",
        of_driver=True,
    ),
)
KNOB = {knob.name: knob for knob in KNOBS}

#: The agent channel goes through libvirtd, which is shared with Nova: no more than one question a second.
MIN_AGENT_INTERVAL = 1.0
#: Nor is one command left with the agent for longer than this, since Nova's own would have to wait (seconds).
MAX_AGENT_TIMEOUT = 10.0
#: The default time-out is the interval, but no more than this.
DEFAULT_TIMEOUT_CEILING = 5.0

_TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})
_FALSE = frozenset({"0", "f", "false", "off", "n", "no"})


@dataclass(frozen=True, slots=True)
class HeartbeatPolicy:
    """How one instance is watched. Times are seconds; bounds as in `KNOBS`."""

    heartbeat: bool = False
    channel: Channel = Channel.AGENT
    interval: float = 10.0
    timeout: float = 5.0
    threshold: int = 3
    grace: float = 600.0
    health_check: bool = False
    action: Action = Action.ALARM
    panic_device: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator says: the default of each knob, and how far a flavor may go."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    min_interval: float = 0.2

    def default(self, knob: Knob) -> Any:
        """The operator's default of this knob, else the table's."""
        value = self.defaults.get(knob.name)
        return knob.default if value is None else value


@dataclass(frozen=True, slots=True)
class Parsed:
    """A policy, or None with the reason in `error`; `warnings` say what was bent."""

    policy: HeartbeatPolicy | None
    warnings: tuple[str, ...] = ()
    error: str | None = None


def parse(asked: Mapping[str, str], limits: Limits | None = None) -> Parsed:
    """Make a policy of the knobs that a domain carries, by their bare names ("interval").

    A value out of bounds is clamped with a warning, an unknown knob is ignored with a warning; a value that makes no
    sense means no policy and an error: the instance is not monitored, and its neighbours are.
    """
    limits = limits or Limits()
    warnings = [
        f"{_quote(_name(name))} is not known here and is ignored; known are {', '.join(sorted(KNOB))}"
        for name in sorted(set(asked) - set(KNOB))
    ]
    values: dict[str, Any] = {}
    for knob in KNOBS:
        if knob.name not in asked:
            values[knob.name] = limits.default(knob)
            continue
        try:
            values[knob.name] = _convert(knob, asked[knob.name], warnings)
        except ValueError as error:
            return Parsed(None, tuple(warnings), str(error))
    _bound_interval(values, limits, warnings)
    if values["timeout"] is None:
        values["timeout"] = min(values["interval"], DEFAULT_TIMEOUT_CEILING)
    if values["channel"] == Channel.AGENT:
        knob = KNOB["timeout"]
        values["timeout"] = _clamp(knob.extra_spec, values["timeout"], knob.minimum, MAX_AGENT_TIMEOUT, warnings)
    values["channel"] = Channel(values["channel"])
    values["action"] = Action(values["action"])
    return Parsed(HeartbeatPolicy(**values), tuple(warnings))


def convert(knob: Knob, text: str) -> Any:
    """The value that this text is for this knob, taken by itself. Raises ValueError, which says what to say instead."""
    bent: list[str] = []
    value = _convert(knob, text, bent)
    if bent:
        raise _refused(knob, text)
    return value


def knobs_of_extra_specs(extra_specs: Mapping[str, str]) -> dict[str, str]:
    """The knobs among a flavor's extra specs, by their bare names. Others' extra specs are left out."""
    knobs = {}
    for name, value in extra_specs.items():
        if name == EXTRA_SPEC:
            knobs["heartbeat"] = value
        elif name.startswith(EXTRA_SPEC + "_"):
            knobs[name[len(EXTRA_SPEC) + 1 :]] = value
    return knobs


def as_knobs(policy: HeartbeatPolicy) -> dict[str, str]:
    """The policy as text, by the knobs' bare names; `parse` gives it back."""
    return {f.name: _text(getattr(policy, f.name)) for f in fields(policy)}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    # Not ":g", which keeps six digits: `parse` is to give back the very same policy.
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _name(name: str) -> str:
    return EXTRA_SPEC if name == "heartbeat" else f"{EXTRA_SPEC}_{name}"


def _convert(knob: Knob, text: str, warnings: list[str]) -> Any:
    word = text.strip()
    if knob.kind is Kind.BOOLEAN:
        if word.lower() in _TRUE | _FALSE:
            return word.lower() in _TRUE
        raise _refused(knob, text)
    if knob.kind is Kind.CHOICE:
        if word.lower() in knob.choices:
            return word.lower()
        raise _refused(knob, text)
    try:
        number = int(word) if knob.kind is Kind.COUNT else float(word)
        sensible = math.isfinite(number)
    except (ValueError, OverflowError):  # a whole number may be too large for a float
        sensible = False
    if not sensible:
        raise _refused(knob, text)
    return _clamp(knob.extra_spec, number, knob.minimum, knob.maximum, warnings)


def _refused(knob: Knob, text: str) -> ValueError:
    return ValueError(f"{knob.extra_spec} is {_quote(text)}: say {knob.allowed}")


def _clamp(name: str, number: Any, low: Any, high: Any, warnings: list[str]) -> Any:
    bounded = min(max(number, low), high)
    if bounded == number:
        return number
    warnings.append(f"{name} is {number:g}, out of bounds {low:g} to {high:g}: taken as {bounded:g}")
    return type(number)(bounded)


def _bound_interval(values: dict[str, Any], limits: Limits, warnings: list[str]) -> None:
    """The operator's bound, and the agent channel's own."""
    low = limits.min_interval
    if values["channel"] == Channel.AGENT:
        low = max(low, MIN_AGENT_INTERVAL)
    values["interval"] = _clamp(
        KNOB["interval"].extra_spec, values["interval"], low, KNOB["interval"].maximum, warnings
    )


def _quote(text: str) -> str:
    """Somebody else's text, made fit for a log line."""
    return repr(text if len(text) <= 40 else text[:40] + "…")
