"""Writes docs/reference.rst, and tables in other pages, from those that the code itself reads: run `tools/reference`
when one has changed.

Needs nothing but the standard library: the notifications' fields are read from the JSON Schemas, which are generated
from the objects. A test holds the page against the tables, and the meanings below against the objects' fields.
"""

from __future__ import annotations

import ast
import importlib
import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vmhb_common.app import crashpoint
from vmhb_common.model import policy
from vmhb_common.model.causes import Cause
from vmhb_common.model.fault import Change
from vmhb_worker.core import events as ev
from vmhb_worker.core import evidence, excuses, lifecycle, spoken_of
from vmhb_worker.core.domain_life import PASSAGE, PAUSE_SETTLES
from vmhb_worker.core.transitions import TRANSITIONS, Act, Input, State
from vmhb_worker.core.verdict import RULES

ROOT = Path(__file__).resolve().parent.parent.parent
RST = ROOT / "docs" / "reference.rst"
_CORE = ROOT / "vmhb_worker" / "core"
_SCHEMAS = ROOT / "vmhb_common" / "objects" / "schemas"

#: Payload -> the event types that carry it.
EVENT_TYPES: dict[str, tuple[str, ...]] = {
    "FaultPayload": tuple(str(change) for change in Change),
    "HeartbeatPayload": ("vmhb.heartbeat.established", "vmhb.heartbeat.ended"),
    "WorkerPayload": ("vmhb.worker.alive",),
}

_WHO = {
    "instance_name": "The domain's name in libvirt.",
    "display_name": "The name that its owner gave it. A tenant's text: escape it.",
    "project_id": "The project that owns it.",
    "flavor_name": "Its flavor.",
}
#: Payload -> field -> what it means. A new field needs a line here.
MEANINGS: dict[str, dict[str, str]] = {
    "FaultPayload": {
        "fault_id": "The same from raise to clear. A new outage has a new one.",
        "sequence": "From 1, one more for each change or reminder. See `Notifications <notifications.rst>`__.",
        "state": "Is the fault open or over?",
        "severity": "How bad the cause is for the instance's owner. On a clear, the one that it had.",
        "occurred_at": "When this change, or this reminder, happened.",
        "cause": "What is wrong: see `Causes`_.",
        "confidence": "How much the evidence carries.",
        "recommended_action": "What is asked of whoever can recover instances. ``none`` once it is cleared.",
        "withheld": "Why a ``recover`` became an ``alarm``; null where nothing was withheld.",
        "recovery_attempt": "0 while no recovery was asked for, 1 from the first ``recover`` on; one more each time "
        "that it is asked for again, 3 at most.",
        "drill": "True: an exercise, on which nobody may act.",
        "resolution": "On a clear, why it is over. Only ``recovered`` says that the guest answers again; of a host, "
        "that it is not suspect any more, or its worker is back.",
        "host": "The compute node, as nova-compute names it.",
        "instance_uuid": "The Nova server; null for a fault of the host itself.",
        **_WHO,
        "channel": "Who must acknowledge.",
        "misses": "Beats missed in a row when this was written.",
        "skipped": "Beats since the last acknowledgement at which the guest could not be asked.",
        "threshold": "The policy's threshold.",
        "interval": "The policy's interval, in seconds.",
        "timeout": "The policy's time-out, in seconds.",
        "last_ack_at": "The last acknowledgement; null where there was none since the worker started.",
        "suspected_at": "The first of the misses.",
        "raised_at": "When the fault was raised.",
        "cleared_at": "When it was cleared.",
        "reason": "One sentence for people, 255 characters at most.",
        "evidence": "All inputs of the verdict, with their ages: see `Verdicts <verdicts.rst>`__. For people.",
        "health": "The last health report: ``status``, and ``checks`` of ``name``, ``status`` and ``message``. The "
        "guest's own words: escape them. Null where none was heard.",
    },
    "HeartbeatPayload": {
        "host": "The compute node, as nova-compute names it.",
        "instance_uuid": "The Nova server.",
        **_WHO,
        "channel": "Who must acknowledge.",
        "occurred_at": "When it happened.",
        "reason": "Why monitoring ended; null when it began.",
        "state": "Did the monitoring begin or end?",
    },
    "WorkerPayload": {
        "host": "The compute node, as nova-compute names it.",
        "version": "Of the worker.",
        "started_at": "When the worker started. With ``sequence`` it orders the signs of one host.",
        "occurred_at": "When this was said.",
        "sequence": "Counts the signs of one life of the worker from 1.",
        "interval": "Seconds until the next sign.",
        "instances": "How many instances are monitored.",
        "monitors": "State -> how many of them are in it: see `States and inputs`_.",
        "open_faults": "Faults raised and not yet cleared.",
        "hypervisor_connected": "Is libvirt there?",
        "store": "Notifications that wait (``waiting``, ``oldest`` in seconds), were ``dropped``, or fail to be "
        "delivered (``failing``: topic -> why), and what is wrong with the disk (``degraded``).",
        "degraded": "Sentences: what does not work. Empty when all is well.",
        "pressure": "How hard pressed the host itself was at the last look: each of ``memory``, ``io``, ``steal`` and "
        "``cpu`` with its share of the time and its age, or why it is unavailable. See `How a VM is found dead "
        "<verdicts.rst>`__.",
    },
}

_HEAD = """\
.. Made by tools/reference from the code's own tables. Do not edit.

=========
Reference
=========

Every table here is written by ``tools/reference`` from the one that the code reads.

.. contents::
   :local:
   :depth: 1

"""


def text() -> str:
    """The page."""
    return _HEAD + "\n".join(
        [
            *(*_knobs(), *_causes(), *_transitions(), *_lifecycle(), *_spoken_of()),
            *(*_numbers(), *_notifications(), *_crash_points()),
        ]
    )


# -- the chapters ------------------------------------------------------------------------------------------------------


def _knobs() -> Iterator[str]:
    yield from _title("Knobs")
    yield _prose(
        "What may be asked for an instance. Attributes of the metadata element, and the options of ``[policy]`` in the "
        "worker's configuration, which replace the defaults below, have the same names without ``hw:heartbeat_``. A "
        "number out of bounds is bounded, with a warning. A value that makes no sense leaves the instance unmonitored, "
        "with an error. An unknown name is ignored, with a warning."
    )
    rows = ((f"``{k.extra_spec}``", _values(k), _default(k), k.help) for k in policy.KNOBS)
    yield from _table(("extra spec", "value", "default", "meaning"), (26, 20, 12, 42), rows)


def _values(knob: policy.Knob) -> str:
    if knob.kind is policy.Kind.BOOLEAN:
        return "true or false"
    if knob.kind is policy.Kind.CHOICE:
        return " or ".join(f"``{choice}``" for choice in knob.choices)
    unit = "seconds" if knob.kind is policy.Kind.SECONDS else "a whole number"
    return f"{unit}, {knob.minimum:g} to {knob.maximum:g}"


def _default(knob: policy.Knob) -> str:
    if knob.default is None:
        return "see there"
    return str(knob.default).removesuffix(".0") if isinstance(knob.default, float) else str(knob.default).lower()


def _causes() -> Iterator[str]:
    yield from _title("Causes")
    yield _prose(
        "In the order in which they are judged: the first that fits is the verdict. A policy that says "
        "``recover_unresponsive`` asks for all that ``recover`` asks for, too."
    )
    rows = (
        (str(number), f"``{r.cause}``", r.reason, str(r.severity), r.recovery.value, str(r.weigh.__doc__))
        for number, r in enumerate(RULES, 1)
    )
    yield from _table(
        ("", "cause", "says", "severity", "asks for recovery", "confidence"), (4, 22, 36, 10, 18, 24), rows
    )
    without = [f"``{cause}``" for cause in Cause if cause not in {rule.cause for rule in RULES}]
    yield _prose(
        f"Words that no row of this table gives: {', '.join(without)}. The worker says ``host_suspect`` of its host, "
        "and ``flapping`` of an instance that comes and goes: see `To act or not <verdicts.rst#to-act-or-not>`__. "
        "``worker_lost`` is raised by the consumer."
    )


def _transitions() -> Iterator[str]:
    yield from _title("States and inputs")
    yield _prose(
        "What follows what: for each input and each state, the next state, and what is done on the way. A dash: "
        "nothing changes. `Verdicts <verdicts.rst>`__ explains the states, and has the same as a picture."
    )
    rows = ((found.value, *(_entry(state, found) for state in State)) for found in Input)
    yield from _table(("input", *(f"in *{state.value}*" for state in State)), (20, 16, 16, 16, 16, 16), rows)


def _entry(state: State, found: Input) -> str:
    after, act = TRANSITIONS[state][found]
    if act is Act.NOTHING:
        return "–" if after is state else f"→ **{after.value}**"
    return act.value if after is state else f"→ **{after.value}**: {act.value}"


def _lifecycle() -> Iterator[str]:
    yield from _title("What libvirt tells")
    yield _prose(
        "Lifecycle events, by libvirt's own names: ``stopped``, ``failed`` is ``VIR_DOMAIN_EVENT_STOPPED_FAILED``. A "
        "star stands for every other detail."
    )
    yield from _table(("event", "detail", "what it means"), (20, 20, 60), _told(lifecycle.EVENTS))
    yield _prose("States, for a domain that is met in one: when the worker starts, or after libvirt was away.")

    yield from _table(("state", "reason", "what it means"), (20, 20, 60), _told(lifecycle.STATES))
    yield _prose("Jobs of libvirt's on a domain, by which a suspect may be excused.")
    rows = (
        (job, "silence while it lasts" if excuse else "nothing: the guest runs all the while")
        for job, excuse in lifecycle.JOBS.items()
    )
    yield from _table(("job", "what it means"), (40, 60), rows)


def _spoken_of() -> Iterator[str]:
    yield from _title("Of whom libvirt speaks")
    yield _prose(
        "What an error of libvirt's says of a challenge. A text goes before the code; what has no row is nobody's act. "
        "Only what the agent itself did can be a miss, and no error closes a port: the live XML and events tell of it."
    )
    rows = [(f"…{text}…", said.whom.value, said.failure.value) for text, said in spoken_of.TEXTS.items()]
    alike: dict[spoken_of.Said, list[str]] = {}
    for code, said in spoken_of.ERRORS.items():
        alike.setdefault(said, []).append(f"``{code}``")
    rows += [(", ".join(codes), said.whom.value, said.failure.value) for said, codes in alike.items()]
    yield from _table(("text, or ``VIR_ERR_…``", "speaks of", "the challenge ended as"), (60, 20, 20), rows)
    yield _prose("And of whom the reasons of its events, and of its answers, speak.")
    reasons = [(f"port {state}", reason, whom.value) for (state, reason), whom in spoken_of.PORT_EVENTS.items()]
    reasons += [("connection closed", reason, whom.value) for reason, (whom, _) in spoken_of.CLOSED.items()]
    reasons += [("``controlInfo``", state, whom.value) for state, whom in spoken_of.CONTROL.items()]
    reasons += [("``controlInfo``, error", reason, whom.value) for reason, whom in spoken_of.CONTROL_ERRORS.items()]
    reasons += [("watchdog", action, whom.value) for action, whom in spoken_of.WATCHDOG.items()]
    reasons += [("I/O error", action, meaning(event)) for action, event in spoken_of.IO_ERRORS.items()]
    reasons += [
        (f"memory failure, {recipient}", action, f"fault at once: ``{Cause.MEMORY_FAILURE}``" if fault else "counted")
        for (recipient, action), fault in spoken_of.MEMORY_FAILURES.items()
    ]
    reasons += [("job", kind, "it is on" if on else "it is over") for kind, on in spoken_of.JOBS_ON.items()]
    yield from _table(("what", "reason", "speaks of, or means"), (30, 30, 40), reasons)
    yield _prose("Events that nobody listens to, and why.")
    yield from _table(("event", "what it tells"), (40, 60), spoken_of.NOT_HEARD.items())


def _told(table: Mapping[tuple[str, str], ev.Event | None]) -> Iterator[Sequence[str]]:
    for (name, detail), event in table.items():
        yield name, "\\*" if detail == "*" else detail, meaning(event)


def meaning(event: ev.Event | None) -> str:
    """What a row of `core.lifecycle` means, for people. Raises KeyError for a kind of event that no row has had yet."""
    match event:
        case ev.Paused(reason, wish):
            unless = "" if wish else "; unless its state, or a panic, says that it is nobody's wish"
            return f"silence until it runs again: {reason}{unless}"
        case ev.InPostcopy(failed):
            told = "fault at once: ``paused_failed``; and " if failed else ""
            return f"{told}silence until all of its memory is here"
        case ev.Panicked(saves_dump=True):
            return "fault at once, an alarm: ``guest_panicked``; recovery after ``crash_dump_grace``, without an answer"
        case ev.Stuck(cause, settles):
            when = f"after {PAUSE_SETTLES:g} s, or libvirt's job" if settles else "at once"
            return f"fault {when}: ``{cause}``"
        case ev.Stopped(how, detail):
            return _STOPPED[how].format(detail)
    return _PLAIN[type(event)]


_STOPPED = {
    ev.Exit.INTENT: "gone, and no fault: somebody's wish, or the guest's own ({})",
    ev.Exit.FAILED: "fault at once: ``qemu_failed`` ({}); but not while it was still arriving",
    ev.Exit.UNKNOWN: "of one that was thought to run, ``stopped_unexplained`` ({}), an alarm; of one that ran before "
    "its host booted anew, ``host_lost_power``",
    ev.Exit.POWER: "fault at once: ``host_lost_power`` ({})",
    ev.Exit.MOVED: "gone; an open fault is cleared as ``moved``",
}
_PLAIN: dict[type[Any], str] = {
    type(None): "nothing",
    ev.Booted: "a boot: its first acknowledgement is waited for",
    ev.Arriving: "silence until it runs here: a migration",
    ev.Restored: f"it goes on where it was; silence until it runs, {PASSAGE:g} s at most",
    ev.Resumed: "it runs again: the end of the silence",
    ev.ShuttingDown: f"silence, {PASSAGE:g} s at most: it powers itself off",
    ev.Panicked: "fault at once, an alarm: ``guest_panicked``; recovery after ``panic_grace``, without an answer",
}


def _numbers() -> Iterator[str]:
    yield from _title("Numbers")
    yield _prose(
        "What is no option: what the worker decides by, and why it is this much. Where a time depends on an instance's "
        "own, what stands here is the most that it can be: at the default policy, and whenever interval and time-out "
        "are a second or more."
    )
    rows = ((f"``{name}``", f"{value:g}", " ".join(why.replace("`", "``").split())) for name, value, why in numbers())
    yield from _table(("number", "value", "what it is"), (30, 10, 60), rows)


def numbers() -> Iterator[tuple[str, float, str]]:
    """Each number that has a name at the top of a module of the core, with the comment above it ("": there is none)."""
    for path in sorted(_CORE.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        lines = source.splitlines()
        module = importlib.import_module(f"vmhb_worker.core.{path.stem}")
        for node in ast.parse(source).body:
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            name = target.id if isinstance(target, ast.Name) else ""
            value = getattr(module, name) if name.isupper() and not name.startswith("_") else None
            if isinstance(value, int | float):
                yield f"{path.stem}.{name}", value, _comment_above(lines, node.lineno - 1)


def _comment_above(lines: Sequence[str], number: int) -> str:
    begin = number
    while begin and lines[begin - 1].startswith("#:"):
        begin -= 1
    return " ".join(line.removeprefix("#:").strip() for line in lines[begin:number])


def _notifications() -> Iterator[str]:
    yield from _title("Notification fields")
    yield _prose(
        "Times are ISO 8601 in UTC, to the second. The installed package has the same as JSON Schema, in "
        "``vmhb_common/objects/schemas/``."
    )
    for payload, meanings in MEANINGS.items():
        yield from _title(payload, "~")
        yield _prose(f"In {', '.join(f'``{event_type}``' for event_type in EVENT_TYPES[payload])}.")
        kinds = _fields(payload)
        rows = ((f"``{name}``", *_kind(kinds[name]), meanings[name]) for name in kinds)
        yield from _table(("field", "type", "null", "meaning"), (20, 26, 6, 48), rows)


def _fields(payload: str) -> dict[str, Any]:
    schema = json.loads((_SCHEMAS / f"{payload}.json").read_text(encoding="utf-8"))
    fields: dict[str, Any] = schema["properties"]["vmhb_object.data"]["properties"]
    return fields


def _kind(schema: Mapping[str, Any]) -> tuple[str, str]:
    """Type, and whether it may be null."""
    types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    may_be_null = "yes" if "null" in types else ""
    if "enum" in schema:
        return ", ".join(f"``{word}``" for word in schema["enum"] if word is not None), may_be_null
    kind = types[0]
    if "pattern" in schema:
        kind = "uuid"
    elif schema.get("format") == "date-time":
        kind = "time"
    elif kind == "array":
        kind = "list of strings"
    return kind, may_be_null


def _crash_points() -> Iterator[str]:
    yield from _title("Crash points")
    yield _prose(
        "For tests: the worker, or the consumer, kills itself when it reaches the point that the variable "
        f"``{crashpoint.VARIABLE}`` names. See `Contributing <contributing.rst>`__."
    )
    rows = ((f"``{point.name}``", point.meaning) for point in crashpoint.POINTS)
    yield from _table(("point", "when it is reached"), (24, 76), rows)


# -- reStructuredText --------------------------------------------------------------------------------------------------


def _prose(words: str) -> str:
    return textwrap.fill(words, 118, break_long_words=False, break_on_hyphens=False) + "\n"


def _title(words: str, line: str = "=") -> Iterator[str]:
    yield f"{words}\n{line * len(words)}\n"


def _table(head: Sequence[str], widths: Sequence[int], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {' '.join(map(str, widths))}", ""]
    for row in (head, *rows):
        for number, cell in enumerate(row):
            lines.append(f"   {'*' if number == 0 else ' '} - {cell}".rstrip())
    yield "\n".join([*lines, ""])


# -- tables in other pages ---------------------------------------------------------------------------------------------


def _evidence() -> str:
    rows = (
        (f"``{name}``", line.source, line.tells, line.fresh, line.guests, line.by.value)
        for name, line in evidence.TABLE.items()
    )
    head = (
        "evidence",
        "where it comes from",
        "what it tells apart",
        "how fresh",
        "of which guests",
        "whose word it is",
    )
    return "".join(_table(head, (12, 30, 22, 18, 18, 10), rows))


def _excuses() -> str:
    rows = (
        ("everybody" if one.value.witness is None else one.value.witness.value, one.value.why, one.value.ends)
        for one in excuses.Excused
    )
    return "".join(_table(("excused", "why", "ends"), (12, 44, 44), rows))


def _example() -> str:
    told = (f"          {json.dumps(name)}: {json.dumps(value)}" for name, value in evidence.example().items())
    return ",\n".join(told) + "\n"


#: Page -> what begins and ends the part of it that is made here, and what makes it.
PARTS: dict[str, tuple[tuple[str, str, Callable[[], str]], ...]] = {
    "verdicts.rst": (
        (".. The table of evidence, made by tools/reference.\n\n", "\n.. Its end.\n", _evidence),
        (".. The table of excuses, made by tools/reference.\n\n", "\n.. Its end.\n", _excuses),
    ),
    "notifications.rst": (('        "evidence": {\n', '        },\n        "health"', _example),),
}


def with_parts(page: str, written: str) -> str:
    """A page as it is written, with those of its parts that are made here as they are to be. ValueError where one has
    lost its marks."""
    for begins, ends, make in PARTS[page]:
        head, found, rest = written.partition(begins)
        if not found or ends not in rest:
            raise ValueError(f"docs/{page} has no {begins.strip()!r}, or not its end: put the marks back")
        written = head + begins + make() + rest[rest.index(ends) :]
    return written


def main() -> int:
    """Write the pages."""
    RST.write_text(text(), encoding="utf-8")
    for name in PARTS:
        page = RST.parent / name
        page.write_text(with_parts(name, page.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
