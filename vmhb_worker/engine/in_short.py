"""How a worker is, in one line, for `systemctl status`. Pure; must not know who reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vmhb_worker.core.transitions import State

#: Characters of what somebody else has said: there may be more, in the log.
SHOWN = 120


def line(watched: int, faults: int, *, away: str | None, store: Mapping[str, Any], of_host: Sequence[str]) -> str:
    """watched, faults: how many instances are, and are open. away: why libvirt is. store: as `Store.health`. of_host:
    what is said of this host."""
    said = [f"instances: {watched} watched, {faults} with an open fault"]
    if away is not None:
        said = [f"libvirt is away, no instance is judged: {away[:SHOWN]}"]
    said += [one[:SHOWN] for one in of_host]
    for topic, why in store.get("failing", {}).items():
        said.append(f"{topic} is not delivered, {store.get('waiting')} wait: {why[:SHOWN]}")
    if store.get("degraded"):
        said.append(f"the disk fails: {str(store['degraded'])[:SHOWN]}")
    return "; ".join(said)


def counts(states: Iterable[State]) -> dict[str, int]:
    """How many instances are in which state."""
    counted = {state.value: 0 for state in State}
    for state in states:
        counted[state.value] += 1
    return counted
