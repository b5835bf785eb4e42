"""Names that nobody else has. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterator, Set

from vmhb_guest.codec import MAX_NAME


def free(wanted: str, pid: int, taken: Set[str]) -> str:
    """The name that is wanted, or else one like it with the process's number, that is not taken. MAX_NAME at most.

    Users choose names, also such as are made here. So one more is tried than is taken: no two are alike, one is free.
    """
    if wanted not in taken:
        return wanted
    return next(name for name in _alike(wanted, pid, len(taken) + 1) if name not in taken)


def _alike(wanted: str, pid: int, count: int) -> Iterator[str]:
    for number in range(1, count + 1):
        suffix = f"[{pid}]" if number == 1 else f"[{pid}.{number}]"
        yield wanted[: MAX_NAME - len(suffix)] + suffix
