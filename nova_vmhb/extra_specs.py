"""The validators of `hw:heartbeat*` for nova-api, made from the table of knobs.

Found by Nova through the entry point group `nova.api.extra_spec_validators`, once, when nova-api starts; used when a
flavor's extra specs are set at microversion 2.86 or above. Nova shows a validator one extra spec at a time, so bounds
that depend on another knob are left to the worker, which clamps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from nova import exception
from nova.api.validation.extra_specs import base
from oslo_log import log

from vmhb_common.model.policy import EXTRA_SPEC, KNOBS, Kind, Knob, convert

LOG = log.getLogger(__name__)

#: Nova knows these three types, and no number with a fraction: seconds are text to it.
_TYPES: dict[Kind, type] = {Kind.BOOLEAN: bool, Kind.COUNT: int, Kind.SECONDS: str, Kind.CHOICE: str}


def register() -> list[base.ExtraSpecValidator]:
    """One validator for each knob, and one that refuses every other name that begins like ours.

    Never raises: an exception from here would keep nova-api from starting. What cannot be made is left out, and logged.
    """
    validators: list[base.ExtraSpecValidator] = []
    makers: list[Callable[[], base.ExtraSpecValidator]] = [partial(KnobValidator, knob) for knob in KNOBS]
    for make in (*makers, UnknownKnobValidator):
        try:
            validators.append(make())
        except Exception:
            LOG.exception("an extra spec validator of nova-vmhb cannot be made: does this Nova fit this nova-vmhb?")
    return validators


class KnobValidator(base.ExtraSpecValidator):
    """Takes for a knob what the worker takes for it without bending it, and says otherwise what to say."""

    def __init__(self, knob: Knob) -> None:
        value: dict[str, Any] = {"type": _TYPES[knob.kind], "description": f"Say {knob.allowed}."}
        bounds = {"min": knob.minimum, "max": knob.maximum, "enum": list(map(str, knob.choices)) or None}
        value.update({name: bound for name, bound in bounds.items() if bound is not None})
        super().__init__(name=knob.extra_spec, description=knob.help, value=value)
        self.knob = knob

    def validate(self, name: str, value: str) -> None:
        """Raise nova's ValidationError, which becomes a 400, with a sentence that names what is allowed."""
        try:
            convert(self.knob, str(value))
        except ValueError as error:
            raise exception.ValidationError(f"Validation failed; {error}.") from None


class UnknownKnobValidator(base.ExtraSpecValidator):
    """Nova asks it for names of which no other validator is: it names those that there are."""

    def __init__(self) -> None:
        super().__init__(
            name=f"{EXTRA_SPEC}{{rest}}",
            description="Refused: there is no such extra spec.",
            value={"type": str, "description": "None."},
            parameters=[{"name": "rest", "description": "Anything.", "pattern": ".+"}],
        )

    def validate(self, name: str, value: str) -> None:
        """Always raises."""
        known = ", ".join(knob.extra_spec for knob in KNOBS)
        raise exception.ValidationError(f"Validation failed; extra spec '{name}' is not known; known are {known}.")
