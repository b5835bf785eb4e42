"""[policy]: the operator's default of each knob, made from the one table of them, and how far flavors may go."""

from __future__ import annotations

from oslo_config import cfg

from vmhb_common.conf.types import prose, seconds_opt
from vmhb_common.model.policy import KNOB, KNOBS, MIN_AGENT_INTERVAL, Kind, Knob, Limits
from vmhb_common.model.silences import MAX_SILENCE

GROUP = "policy"
HELP = "What holds for instances whose flavor and image do not say, and how far they may go"

#: The table's own bounds of the interval are those of its operator's bound, too.
_INTERVAL = KNOB["interval"]

#: Why an operator would change a default.
_WHEN = {
    "heartbeat": "True monitors every instance of this node that does not opt out: for a node whose images are all "
    "known to have the agent.",
    "channel": "Say application where every monitored image brings an application that acknowledges.",
    "interval": "A shorter one finds a loss sooner, and costs this node's libvirt one question more per instance and "
    "interval.",
    "timeout": "Raise it where guests are slow to answer for good reasons.",
    "threshold": "A loss is reported after threshold x interval + timeout seconds: raise it where guests are known to "
    "stall for a while.",
    "grace": "Raise it where instances take long to install themselves at their first boot.",
    "health_check": "True where every monitored image has a health check.",
    "action": "Say more than alarm once you trust what is reported; [verdict] observe_only shows what would be asked.",
}
_CHOICES = {
    "agent": "the stock QEMU guest agent",
    "application": "an application, through a port of its own",
    "alarm": "no recovery",
    "recover": "recovery when QEMU or the guest's kernel is shown to be dead",
    "recover_unresponsive": "also when the kernel lives, but agent or application is silent or unhealthy",
}


def _opt(knob: Knob) -> cfg.Opt:
    who = f"For instances whose flavor does not say {knob.extra_spec}. {_WHEN[knob.name]}"
    text = "\n\n".join([knob.help, who, *_bounds(knob)])
    if knob.kind is Kind.BOOLEAN:
        return cfg.BoolOpt(knob.name, default=knob.default, help=prose(text))
    if knob.kind is Kind.CHOICE:
        choices = [(str(choice), _CHOICES[choice]) for choice in knob.choices]
        return cfg.StrOpt(knob.name, default=str(knob.default), choices=choices, help=prose(text))
    if knob.kind is Kind.COUNT:
        low, high = int(knob.minimum or 0), int(knob.maximum or 0)
        return cfg.IntOpt(knob.name, default=knob.default, min=low, max=high, help=prose(text))
    return seconds_opt(knob.name, knob.default, knob.minimum or 0.0, knob.maximum or 0.0, text)


def _bounds(knob: Knob) -> list[str]:
    if knob.minimum is None:
        return []
    unit = "Seconds" if knob.kind is Kind.SECONDS else "A whole number"
    return [f"{unit}, {knob.minimum:g} to {knob.maximum:g}."]


OPTS = [
    *(_opt(knob) for knob in KNOBS if not knob.of_driver),
    seconds_opt(
        "min_interval",
        _INTERVAL.minimum,
        _INTERVAL.minimum or 0.0,
        _INTERVAL.maximum or 0.0,
        f"""
The shortest interval that a flavor may ask for. One that asks for a shorter one gets this, and the log says so.

Raise it to bound what monitoring costs this node, where tenants' flavors are not your own. The agent channel is never
asked more often than every {MIN_AGENT_INTERVAL:g} s, whatever this says.

Seconds, {_INTERVAL.minimum:g} to {_INTERVAL.maximum:g}.
""",
    ),
    seconds_opt(
        "max_maintenance",
        7200.0,
        0.0,
        MAX_SILENCE,
        f"""
How long an application may be in maintenance within 24 hours, by its own word. Meanwhile it is not judged; that it
asked is reported, and when it has not come back by then, that too (maintenance_overdue). What it asks for beyond this
is refused. It changes nothing for silences that an operator or Nova announces.

Raise it where applications are upgraded for longer than this. 0 allows none.

Seconds, 0 to {MAX_SILENCE:g}.
""",
    ),
]


def limits(conf: cfg.ConfigOpts) -> Limits:
    """What the parser of flavors is handed. Raises ValueError where defaults and bounds contradict each other."""
    group = conf.policy
    defaults = {knob.name: group[knob.name] for knob in KNOBS if not knob.of_driver}
    if defaults["interval"] < group.min_interval:
        if _is_set(conf, "interval"):
            raise ValueError(f"interval is below min_interval ({group.min_interval:g})")
        defaults["interval"] = group.min_interval  # nobody chose the default: the bound is what was meant
    return Limits(defaults=defaults, min_interval=group.min_interval)


def _is_set(conf: cfg.ConfigOpts, name: str) -> bool:
    location = conf.get_location(name, GROUP)
    return location is not None and location.location is not cfg.Locations.opt_default
