"""How healthy, and why: the worst of several findings wins, and is named. No I/O, no clock."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

from vmhb_guest.codec import MAX_NAME, MAX_TEXT, clean

HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"
#: From good to bad.
STATUSES = (HEALTHY, DEGRADED, UNHEALTHY)

#: Findings in one report, and the bytes that a report may take in its line; the rest of the line is the ack's.
MAX_FINDINGS = 16
MAX_REPORT = 3500


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check or one application is found to be."""

    name: str
    status: str  #: one of STATUSES
    message: str = ""
    silent: bool = False  #: an application that is dead or hung: nobody may acknowledge in its name
    aside: bool = False  #: of one that does not speak for this machine: comes after all others


@dataclasses.dataclass(frozen=True)
class Report:
    """All findings, the worst first; aside from those of others, which come last."""

    findings: tuple[Finding, ...] = ()

    @property
    def status(self) -> str:
        """Of the worst; healthy where there is none."""
        return _worst(self.findings)

    @property
    def silent(self) -> bool:
        """Is one of the applications dead or hung?"""
        return any(finding.silent for finding in self.findings)

    def message(self) -> dict[str, Any]:
        """As an ack carries it, in at most MAX_REPORT bytes. How many of the best didn't fit is said."""
        checks: list[dict[str, str]] = []
        room = MAX_REPORT - 300  # for the braces, and for how many were left out
        for finding in self.findings[:MAX_FINDINGS]:
            check = {
                "name": clean(finding.name, MAX_NAME),
                "status": finding.status,
                "message": clean(finding.message, MAX_TEXT),
            }
            room -= len(json.dumps(check, ensure_ascii=False).encode("utf-8", "replace"))
            if room < 0:
                break
            checks.append(check)
        left = self.findings[len(checks) :]
        if left:
            message = f"{len(left)} more are not shown"
            checks.append({"name": "vmhb-guest", "status": _worst(left), "message": message})
        return {"status": self.status, "checks": checks}


def merge(findings: Iterable[Finding]) -> Report:
    """One report of all."""
    return Report(tuple(sorted(findings, key=lambda one: (one.aside, -STATUSES.index(one.status), one.name))))


def _worst(findings: Iterable[Finding]) -> str:
    return max((one.status for one in findings), key=STATUSES.index, default=HEALTHY)
