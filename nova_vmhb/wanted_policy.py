"""What flavor and image together ask for one instance. Pure; knows nothing of Nova but how it spells the two.

The flavor opts in. The image, which may be a tenant's own, may opt out, choose the channel and lengthen times.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vmhb_common.model.policy import EXTRA_SPEC, KNOB, KNOBS, Channel, Kind, Knob, convert, knobs_of_extra_specs, parse

#: Where Nova keeps an image's properties: its objects know a closed list of them, which ours are not on.
IMAGE_PROPERTY = "hw_heartbeat"
_SYSTEM_METADATA = f"image_{IMAGE_PROPERTY}"

#: What an image may lengthen.
TIMES = tuple(knob for knob in KNOBS if knob.kind is Kind.SECONDS)
_IMAGE_MAY_SAY = {"heartbeat", "channel", *(knob.name for knob in TIMES)}

#: Names that can be attributes of our element beside its own, "version". A worker newer than this file may know more
#: knobs than we do, so unknown ones are handed on.
_ATTRIBUTE = re.compile(r"(?!xml|version$)[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Asked:
    """knobs: what the element in the domain's metadata says, in the flavor's own words where it has any.

    channels: those that the guest gets, in order. error: why nobody will be monitored; `warnings`: what was ignored.
    panic_device: is the guest to have one?
    """

    knobs: Mapping[str, str]
    channels: tuple[Channel, ...] = ()
    warnings: tuple[str, ...] = ()
    error: str | None = None
    panic_device: bool = False


def asked(extra_specs: Mapping[str, str], system_metadata: Mapping[str, str]) -> Asked | None:
    """What to put into the domain; None when the flavor does not ask: then nothing is, whatever the image says.

    A flavor that makes no sense gets its words into the domain and no channel: the worker then says what is wrong.
    """
    flavor = {name: str(value) for name, value in knobs_of_extra_specs(extra_specs).items()}
    if not _opts_in(flavor):
        return None
    knobs = {name: value for name, value in flavor.items() if _ATTRIBUTE.fullmatch(name)}
    if error := parse(knobs).error:
        return Asked(knobs, error=error)
    image = dict(_properties(system_metadata))
    warnings = [f"extra spec {f'{EXTRA_SPEC}_{name}'!r} is ignored" for name in sorted(set(flavor) - set(knobs))]
    if _opts_out(image, warnings):
        # Said, not left out: Nova 2025.2 and later puts the flavor's wish into the domain as well, and ours goes first.
        return Asked({"heartbeat": "false"}, warnings=tuple(warnings))
    _choose_channel(knobs, image, warnings)
    _lengthen(knobs, image, warnings)
    if others := sorted(set(image) - _IMAGE_MAY_SAY):
        names = ", ".join(f"{IMAGE_PROPERTY}_{name}" for name in others)
        warnings.append(
            f"image properties {names[:200]!r} are ignored: an image may opt out, choose the channel, and lengthen "
            f"{', '.join(knob.name for knob in TIMES)}"
        )
    panic_device = bool(convert(KNOB["panic_device"], knobs.get("panic_device", "false")))
    return Asked(knobs, _channels(knobs), tuple(warnings), panic_device=panic_device)


def _properties(system_metadata: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The image's properties that begin like ours, by the knobs' bare names."""
    for key, value in system_metadata.items():
        if key == _SYSTEM_METADATA:
            yield "heartbeat", str(value)
        elif key.startswith(f"{_SYSTEM_METADATA}_"):
            yield key.removeprefix(f"{_SYSTEM_METADATA}_"), str(value)


def _opts_in(flavor: Mapping[str, str]) -> bool:
    """What is neither true nor false is a wish, too: one that somebody has to be told about."""
    try:
        return "heartbeat" in flavor and bool(convert(KNOB["heartbeat"], flavor["heartbeat"]))
    except ValueError:
        return True


def _opts_out(image: Mapping[str, str], warnings: list[str]) -> bool:
    return _image_says(image, KNOB["heartbeat"], warnings) is False


def _choose_channel(knobs: dict[str, str], image: Mapping[str, str], warnings: list[str]) -> None:
    channel = _image_says(image, KNOB["channel"], warnings)
    if channel is not None:
        knobs["channel"] = str(channel)


def _lengthen(knobs: dict[str, str], image: Mapping[str, str], warnings: list[str]) -> None:
    for knob in TIMES:
        if (said := _image_says(image, knob, warnings)) is None:
            continue
        policy = parse(knobs).policy  # each time anew: the default of the time-out depends on the interval
        wish, now = float(said), getattr(policy, knob.name)
        if _length(knob, wish) > _length(knob, now):
            knobs[knob.name] = image[knob.name].strip()
        elif wish != now:
            warnings.append(
                f"image property {IMAGE_PROPERTY}_{knob.name} is ignored: {wish:g} s is shorter than {now:g} s, and an "
                "image may only lengthen times"
            )


def _length(knob: Knob, seconds: float) -> float:
    """A grace of 0 is the longest: it waits for ever."""
    return math.inf if knob.name == "grace" and not seconds else seconds


def _image_says(image: Mapping[str, str], knob: Knob, warnings: list[str]) -> bool | str | float | None:
    """The image's value, None where it has none or none that makes sense."""
    if knob.name not in image:
        return None
    try:
        value: bool | str | float = convert(knob, image[knob.name])
    except ValueError as error:
        warnings.append(f"an image property is ignored: {error}".replace(EXTRA_SPEC, IMAGE_PROPERTY, 1))
        return None
    return value


def _channels(knobs: Mapping[str, str]) -> tuple[Channel, ...]:
    """The agent channel always, since it is evidence as well; first, since others look at the first channel only."""
    policy = parse(knobs).policy
    if policy is not None and policy.channel is Channel.APPLICATION:
        return Channel.AGENT, Channel.APPLICATION
    return (Channel.AGENT,)
