"""Why there is no report of an instance's health, and what follows from that: a table, with a row for each reason.

A report that does not come says nothing about the application. So it accuses nobody; and what was found before stands,
but for the reasons that mean that the guest's owner has ended the asking. Pure: it knows no agent and no clock.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


class Absent(enum.Enum):
    """Why a report that was asked for did not come, though somebody answered."""

    FORBIDDEN = "the agent's policy forbids to run anything"
    MISSING = "the image has no health check"
    UNSAID = "the application answered, and has no health to tell"
    NOT_EXECUTABLE = "the health check is no program"
    UNSAFE = "others than root may write the health check, or what runs it"
    NO_SHELL = "the guest has no shell to run it"
    NOT_ALLOWED = "the guest's security policy forbids it"
    FROZEN = "file systems are frozen"
    NO_ROOM = "no memory, or no room for another process or file"
    LOST = "the agent knows nothing of the check that it started"
    UNREADABLE = "what came makes no sense"
    OTHER = "the agent or the guest's shell refused in words that are not known"


@dataclass(frozen=True, slots=True)
class Row:
    """What follows."""

    #: Has somebody seen to it that nobody asks any more? Then so many in a row end an unhealthy fault as `unmonitored`.
    #: Else it stands: it may well be what ails the application that keeps its health from being asked.
    ends: bool = False
    #: Does a check that runs go on? Then it is asked for again.
    runs_on: bool = False
    #: Was nothing started, where a start was refused for this reason? Then another may be tried with the next beat.
    not_begun: bool = False


ROWS: Mapping[Absent, Row] = MappingProxyType(
    {
        Absent.FORBIDDEN: Row(ends=True, not_begun=True),
        Absent.MISSING: Row(ends=True),
        Absent.UNSAID: Row(ends=True),
        # Not on purpose, as a rule: a check that was copied without its mode or owner, a file system that lost files.
        Absent.NOT_EXECUTABLE: Row(),
        Absent.UNSAFE: Row(),
        Absent.NO_SHELL: Row(not_begun=True),
        Absent.NOT_ALLOWED: Row(not_begun=True),
        Absent.FROZEN: Row(runs_on=True, not_begun=True),
        Absent.NO_ROOM: Row(not_begun=True),
        Absent.LOST: Row(),
        Absent.UNREADABLE: Row(),
        Absent.OTHER: Row(),
    }
)

#: A part of what the agent says when it refuses -> the reason; the first that fits. They are the words of QEMU's agent
#: and of GLib, which starts its programs, since guest-exec there is. An agent that is frozen says "disabled", too.
REFUSALS = (
    ("frozen", Absent.FROZEN),
    ("has been disabled", Absent.FORBIDDEN),
    ("has not been found", Absent.FORBIDDEN),
    ("Cannot allocate memory", Absent.NO_ROOM),
    ("Failed to fork", Absent.NO_ROOM),
    ("Resource temporarily unavailable", Absent.NO_ROOM),
    ("Too many open files", Absent.NO_ROOM),
    ("No space left", Absent.NO_ROOM),
    ("No such file", Absent.NO_SHELL),
    ("ermission denied", Absent.NOT_ALLOWED),
    ("Operation not permitted", Absent.NOT_ALLOWED),
    ("Invalid parameter 'pid'", Absent.LOST),
)


def refused(detail: str) -> Absent:
    """What an agent means that says this."""
    return next((reason for words, reason in REFUSALS if words in detail), Absent.OTHER)
