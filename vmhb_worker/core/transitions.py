"""The table of an instance's life. To change what follows what, change it here: the code, the diagram in the docs and
the tests read it. It is total: every state has an entry for every input.

How to edit: an input is a fact already judged (`monitor` finds that a miss is the last one); an entry says which state
comes next and which act is carried out on the way. A state has no memory beside what its name says.
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    """Where an instance's monitor is."""

    # Members are looked up at each heartbeat, and there is one of each: `Enum` hashes their names, in Python.
    __hash__ = object.__hash__

    WAITING = "waiting"  # no acknowledgement yet in this boot
    ALIVE = "alive"  # it answers, or is owed a full threshold of misses
    MISSING = "missing"  # one to threshold - 1 misses in a row: suspicion, nothing reported
    SILENT = "silent"  # judged; challenged ever more rarely until it answers
    GONE = "gone"  # its domain does not run


class Input(enum.Enum):
    """What happened, after it was made sense of."""

    __hash__ = object.__hash__

    ACK = "acknowledged"
    MISS = "missed, below the threshold"
    LAST_MISS = "missed, threshold reached"
    EXITED = "port closed for the settle time"
    REOPENED = "port opened again"
    FOUND_DEAD = "found dead, while who is to acknowledge is excused"
    STUCK = "paused by QEMU for an error"
    ENDED = "its QEMU has ended, and libvirt does not say so"
    PANIC = "panicked, and no acknowledgement since"
    OVERDUE = "no first acknowledgement in time"
    BOOT = "booted"
    GO_ON = "goes on where it was"
    HUSH = "a silence began or ended"
    STOP = "stopped on purpose"
    MOVE = "moved to another host"
    FAIL = "QEMU failed"


class Act(enum.Enum):
    """What the monitor does on the way."""

    __hash__ = object.__hash__

    NOTHING = "–"
    ESTABLISH = "the first acknowledgement of this boot: establish"
    CALM = "drop the suspicion"
    SUSPECT = "begin to gather evidence"
    COUNT = "count"
    ACCUSE = "judge, raise or update the fault"
    AWAIT = "wait for the first acknowledgement of this boot"
    RENEW = "grant a full threshold"
    LEAVE = "stop watching, keep an open fault"
    DEPART = "stop watching, close an open fault as moved"


Row = dict[Input, tuple[State, Act]]

_ANYWHERE: Row = {
    Input.BOOT: (State.WAITING, Act.AWAIT),
    Input.GO_ON: (State.ALIVE, Act.RENEW),
    Input.STOP: (State.GONE, Act.LEAVE),
    Input.MOVE: (State.GONE, Act.DEPART),
    Input.FAIL: (State.GONE, Act.ACCUSE),
}
_RUNNING: Row = {
    **_ANYWHERE,
    Input.STUCK: (State.SILENT, Act.ACCUSE),
    Input.ENDED: (State.SILENT, Act.ACCUSE),
    Input.PANIC: (State.SILENT, Act.ACCUSE),
}
_ANSWERED_ONCE: Row = {
    **_RUNNING,
    Input.LAST_MISS: (State.SILENT, Act.ACCUSE),
    Input.EXITED: (State.SILENT, Act.ACCUSE),
    Input.FOUND_DEAD: (State.SILENT, Act.ACCUSE),
}

TRANSITIONS: dict[State, Row] = {
    State.WAITING: {
        **_RUNNING,
        Input.ACK: (State.ALIVE, Act.ESTABLISH),
        Input.MISS: (State.WAITING, Act.NOTHING),  # the grace counts, not the misses
        Input.LAST_MISS: (State.WAITING, Act.NOTHING),
        Input.EXITED: (State.WAITING, Act.NOTHING),
        Input.FOUND_DEAD: (State.WAITING, Act.NOTHING),
        Input.REOPENED: (State.WAITING, Act.NOTHING),
        Input.OVERDUE: (State.WAITING, Act.ACCUSE),
        Input.HUSH: (State.WAITING, Act.NOTHING),
    },
    State.ALIVE: {
        **_ANSWERED_ONCE,
        Input.ACK: (State.ALIVE, Act.NOTHING),
        Input.MISS: (State.MISSING, Act.SUSPECT),
        Input.REOPENED: (State.ALIVE, Act.NOTHING),
        Input.OVERDUE: (State.ALIVE, Act.NOTHING),
        Input.HUSH: (State.ALIVE, Act.RENEW),
    },
    State.MISSING: {
        **_ANSWERED_ONCE,
        Input.ACK: (State.ALIVE, Act.CALM),
        Input.MISS: (State.MISSING, Act.COUNT),
        Input.REOPENED: (State.MISSING, Act.NOTHING),
        Input.OVERDUE: (State.MISSING, Act.NOTHING),
        Input.HUSH: (State.ALIVE, Act.RENEW),
    },
    State.SILENT: {
        **_ANSWERED_ONCE,
        Input.ACK: (State.ALIVE, Act.CALM),
        Input.MISS: (State.SILENT, Act.NOTHING),
        Input.LAST_MISS: (State.SILENT, Act.NOTHING),
        # Another agent may be there now: were it as silent, the cause would be another.
        Input.REOPENED: (State.ALIVE, Act.RENEW),
        Input.OVERDUE: (State.SILENT, Act.NOTHING),
        Input.HUSH: (State.SILENT, Act.NOTHING),
    },
    State.GONE: {
        **_ANYWHERE,
        Input.ACK: (State.GONE, Act.NOTHING),  # the late answer of a guest that has stopped since
        Input.MISS: (State.GONE, Act.NOTHING),
        Input.LAST_MISS: (State.GONE, Act.NOTHING),
        Input.EXITED: (State.GONE, Act.NOTHING),
        Input.FOUND_DEAD: (State.GONE, Act.NOTHING),
        Input.REOPENED: (State.GONE, Act.NOTHING),
        Input.STUCK: (State.GONE, Act.NOTHING),
        Input.ENDED: (State.GONE, Act.NOTHING),
        Input.PANIC: (State.GONE, Act.NOTHING),
        Input.OVERDUE: (State.GONE, Act.NOTHING),
        Input.HUSH: (State.GONE, Act.NOTHING),
        Input.STOP: (State.GONE, Act.NOTHING),
        Input.FAIL: (State.GONE, Act.NOTHING),
    },
}
