"""Rings a pager for faults that nobody is asked to recover. A template for a reporter: copy this folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from oslo_config import cfg

from vmhb_consumer.reporters.base import Case, Change, Fault
from vmhb_consumer.reporters.http import HttpReporter, Request, json_body


class PagerReporter(HttpReporter):
    """One request for each change. BLOCKS as long as `timeout` says."""

    #: As in [consumer] reporters; the options are those of [reporter_pager].
    name = "pager"
    #: One sentence, for the sample configuration.
    summary = "Rings a pager for faults that nobody is asked to recover"
    #: Does it do something about faults, or have it done? Then it is not told of drills. This one's receiver sees them.
    acts = False

    @classmethod
    def options(cls) -> Sequence[cfg.Opt]:
        """The base has url, timeout, and TLS. Each option needs a help text; none may be `required`."""
        return [*super().options(), cfg.StrOpt("key", secret=True, help="Whose pager to ring. Required.")]

    def __init__(self, options: Any, now: Callable[[], datetime]) -> None:
        """options: this reporter's own group. Connect to nothing; ValueError where an option makes no sense."""
        super().__init__(options, now)
        if not options.key:
            raise ValueError("key is missing: say whose pager to ring")
        self._key: str = options.key

    def wants(self, change: Change, fault: Fault) -> bool:
        """Whatever follows a page is wanted, the clear above all: it comes only where there was one.

        The first, which comes as RAISED, only where no recovery was asked for, and none is held back for now:
        `withheld` says why an alarm may become a recovery.
        """
        return change is not Change.RAISED or not (fault.recovery_was_asked_for or fault.withheld)

    def request(self, case: Case) -> Request:
        """The same at each try, so that the receiver knows what it has had already."""
        fault = case.fault
        body = {
            "key": self._key,
            "incident": fault.fault_id,
            "action": {Change.RAISED: "ring", Change.UPDATED: "note", Change.CLEARED: "resolve"}[case.change],
            "text": fault.reason,
            "details": case.payload(),
        }
        return Request(json_body(body), {"Content-Type": "application/json"})

    # What an answer means is decided by its status. Where your backend says more, override `answered`, and return
    # Done(), Later(seconds or None, why), or Refused(why).
