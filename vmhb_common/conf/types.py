"""Kinds of values that oslo.config has not, or whose errors say too little."""

from __future__ import annotations

import math
import re
from typing import Any

from oslo_config import cfg, types


class Seconds(types.Float):
    """Seconds within bounds. oslo.config's own float takes `nan`, which is within any bounds."""

    def __init__(self, minimum: float, maximum: float) -> None:
        super().__init__(min=minimum, max=maximum, type_name="number of seconds")

    def __call__(self, value: Any) -> float:
        try:
            number = super().__call__(value)
        except ValueError:
            number = None
        if number is None or not math.isfinite(number):
            raise ValueError(f"say seconds, {self.min:.15g} to {self.max:.15g}")
        return float(number)


class Word(types.String):
    """A name that becomes part of an AMQP routing key: no white space, no wildcards, not too long."""

    #: AMQP's short strings have 255 bytes; oslo.messaging's own parts need some of them.
    LIMIT = 200
    _PATTERN = re.compile(r"[^\s#*/,]+", re.ASCII)

    def __call__(self, value: Any) -> str:
        text = str(super().__call__(value))
        if len(text.encode()) <= self.LIMIT and self._PATTERN.fullmatch(text):
            return text
        raise ValueError(f"say one word, at most {self.LIMIT} bytes, without white space, '#', '*', '/' and ','")


class RPCVersion(types.String):
    """The version of an RPC interface. oslo.messaging stumbles over anything else only when something is called."""

    _PATTERN = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}")

    def __call__(self, value: Any) -> str:
        text = str(super().__call__(value))
        if self._PATTERN.fullmatch(text):
            return text
        raise ValueError("say a version, such as 1.0")


def seconds_opt(
    name: str, default: float | None, minimum: float, maximum: float, text: str, mutable: bool = False
) -> cfg.Opt:
    """An option in seconds. Both bounds are inclusive. mutable: SIGHUP has it read again."""
    return cfg.Opt(name, type=Seconds(minimum, maximum), default=default, help=prose(text), mutable=mutable)


def prose(text: str) -> str:
    """A help text as the generator wants it: a paragraph is a line."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))
