"""Fuzzing by hand what a guest can send to the worker: bytes of the application channel, and replies of the agent.

    python -m tests.fuzz [-max_total_time=600] [CORPUS]     needs atheris; the options are libFuzzer's

What is held: nothing is raised; no more than one line is kept, whatever comes; what comes out can be told, logged in
one line, and, where it is a message, said again as the same message. CI does the same with hypothesis, for seconds:
tests/unit/core/test_codec.py and test_guest_exec.py.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

import atheris

with atheris.instrument_imports(include=["vmhb_worker"]):
    from vmhb_worker.core.codec import LINE_LIMIT, Codec, Objection, encode
    from vmhb_worker.core.guest_exec import GuestExec
    from vmhb_worker.core.protocol import FROM_GUEST, Ack, Error

#: How often it is said how far it is (inputs).
_EVERY = 200_000
_BEGAN = time.monotonic()
_done = [0]


def one(data: bytes) -> None:
    """One input: what a guest says, in pieces, and the same as a reply of its agent."""
    codec = Codec(FROM_GUEST)
    step = 1 + (data[0] if data else 0)
    for at in range(0, len(data), step):
        for message in codec.receive(data[at : at + step]):
            _sound(message)
        assert len(codec._tail) < LINE_LIMIT
    _reply(data)
    _done[0] += 1
    if _done[0] % _EVERY == 0:
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"{_done[0]} inputs, {time.monotonic() - _BEGAN:.0f} s, {used} KiB at most", file=sys.stderr)


def _sound(message: Any) -> None:
    assert "\n" not in repr(message)
    if isinstance(message, Objection):
        encode(Error(str(message.code), message.detail))
    elif not (isinstance(message, Ack) and message.health):  # which may be longer, said again: escapes
        assert Codec(FROM_GUEST).receive(encode(message))[0] in (message, *_without_refusal(message))


def _without_refusal(message: Any) -> tuple[Any, ...]:
    return (Ack(message.seq, message.nonce),) if isinstance(message, Ack) else ()


def _reply(data: bytes) -> None:
    check, text = GuestExec(), data.decode("utf-8", "replace")
    for reply in (text, '{"return": {"pid": 1}}', text):
        check.step()
        ended = check.replied(reply, 100.0)
        if ended is not None and ended.report is not None:
            assert "\n" not in json.dumps(ended.report.told())


def main() -> None:
    """Until it is told to end, or finds something."""
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
