"""Says each change of a fault in the consumer's log. All of the contract, no backend."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from vmhb_consumer.reporters.base import Case, Done, Outcome, Reporter

LOG = logging.getLogger(__name__)


class LogReporter(Reporter):
    """Never fails, never waits."""

    name = "log"
    summary = "Each change of a fault as one line of the consumer's log"
    acts = False

    def __init__(self, options: Any, now: Callable[[], datetime]) -> None:
        """No options, no clock."""

    def deliver(self, case: Case) -> Outcome:
        """One line. What a guest may have had a say in is escaped."""
        fault = case.fault
        LOG.info(
            "fault %s (%d) %s: %s: %s, %s: %r",
            *(fault.fault_id, fault.sequence, case.change, fault.subject),
            *(fault.cause, fault.recommended_action, fault.reason),
        )
        return Done()
