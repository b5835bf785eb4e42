"""POSTs each change of a fault as JSON to a URL. The example of a reporter: copy it, or etc/reporter, to write your
own.

The body is `Case.payload`: `event_type`, `recovery_was_asked_for`, and `fault`, with all fields of the notification.
The receiver keys on `fault.fault_id` and `fault.sequence`: what it had answered when the consumer was killed comes
again.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from oslo_config import cfg

from vmhb_common.conf.types import prose
from vmhb_consumer.reporters.base import Case
from vmhb_consumer.reporters.http import HttpReporter, Request, json_body

SIGNATURE = "X-Vmhb-Signature"


class WebhookReporter(HttpReporter):
    """See the module. BLOCKS as long as `timeout` says."""

    name = "webhook"
    summary = "Each change of a fault, POSTed as JSON to a URL"
    #: Whoever receives it may: `fault.drill` tells.
    acts = False

    @classmethod
    def options(cls) -> Sequence[cfg.Opt]:
        """Its group."""
        return [*super().options(), *_OPTIONS]

    def __init__(self, options: Any, now: Callable[[], datetime]) -> None:
        """As the contract says."""
        super().__init__(options, now)
        for name in ("token", "secret"):
            value = getattr(options, name)
            if value is not None and not (value and value.isascii() and value.isprintable()):
                raise ValueError(f"{name} is empty, or has what is not printable ASCII")
        self._token: str | None = options.token
        self._secret: str | None = options.secret

    def request(self, case: Case) -> Request:
        """The same bytes at each try."""
        body = json_body(case.payload())
        headers = {"Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if self._secret is not None:
            headers[SIGNATURE] = f"sha256={hmac.new(self._secret.encode(), body, hashlib.sha256).hexdigest()}"
        return Request(body, headers)


_OPTIONS = (
    cfg.StrOpt("token", secret=True, help=prose("Sent as `Authorization: Bearer …`, where the receiver asks for one.")),
    cfg.StrOpt(
        "secret",
        secret=True,
        help=prose(
            """
Shared with the receiver: each request then has X-Vmhb-Signature: sha256=…, the HMAC of its body in hexadecimal, by
which the receiver knows that it is ours.
"""
        ),
    ),
)
