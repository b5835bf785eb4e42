"""Challenges over the agent channel: stock qemu-ga, spoken to through libvirt.

A challenge is `guest-sync` with a fresh nonce, which every qemu-ga answers, also with its file systems frozen; an
answer with another nonce is none. How many may be on their way is the engine's business (`core.agent_lanes`): there is
a thread for each. A command that libvirt never gives back keeps its thread, and nobody else's.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable

from vmhb_worker.core.events import AgentReplied, AskEnded, CommandEnded, Failure
from vmhb_worker.core.guest_text import clean
from vmhb_worker.interfaces import AgentError, Post

#: `Hypervisor.agent_command`.
Command = Callable[[str, str, int], str]

#: Larger replies are not parsed: a guest controls every byte of them.
REPLY_LIMIT = 65536
#: Of an error so many characters are kept: libvirt's own words come first in it.
ERROR_LIMIT = 500


class GuestAgent:
    """Implements `interfaces.Agent`. Thread-safe."""

    def __init__(self, command: Command, threads: int) -> None:
        """threads: how many challenges may be on their way at a time."""
        self._command = command
        self._threads = threads
        self._asks: queue.SimpleQueue[tuple[str, int, str | None, int]] = queue.SimpleQueue()

    def open(self, post: Post) -> None:
        """Start the threads. They end with the process: one that is stuck in libvirt must not hold up its end."""
        for number in range(self._threads):
            threading.Thread(target=self._work, args=(post,), name=f"agent-{number}", daemon=True).start()

    def ask(self, uuid: str, nonce: int, timeout: int) -> None:
        """Challenge the guest's agent; `AskEnded` says what came of it."""
        self._asks.put((uuid, nonce, None, timeout))

    def run(self, uuid: str, nonce: int, command: str, timeout: int) -> None:
        """Put another command to it; `CommandEnded` says what came of it."""
        self._asks.put((uuid, nonce, command, timeout))

    def _work(self, post: Post) -> None:
        while True:
            uuid, nonce, command, timeout = self._asks.get()
            post(
                self._asked(uuid, nonce, timeout)
                if command is None
                else CommandEnded(uuid, nonce, self._run(uuid, command, timeout))
            )

    def _asked(self, uuid: str, nonce: int, timeout: int) -> AskEnded:
        started = time.monotonic()
        failure, detail = self._challenge(uuid, nonce, timeout)
        return AskEnded(uuid, nonce, time.monotonic() - started, failure, detail)

    def _run(self, uuid: str, command: str, timeout: int) -> AgentReplied:
        try:
            reply = self._command(uuid, command, timeout)
            if len(reply) > REPLY_LIMIT:
                return AgentReplied(None, Failure.GARBLED, _too_long(reply))
        except AgentError as error:
            return AgentReplied(None, error.failure, _in_words(error))
        except Exception as error:  # as below
            return AgentReplied(None, Failure.UNREACHABLE, _in_words(error))
        return AgentReplied(reply)

    def _challenge(self, uuid: str, nonce: int, timeout: int) -> tuple[Failure | None, str]:
        command = json.dumps({"execute": "guest-sync", "arguments": {"id": nonce}})
        try:
            return check_reply(self._command(uuid, command, timeout), nonce)
        except AgentError as error:
            return error.failure, _in_words(error)
        except Exception as error:  # a fault of ours must cost one beat, not this thread
            return Failure.UNREACHABLE, _in_words(error)


def _too_long(reply: str) -> str:
    return f"reply of {len(reply)} characters, more than {REPLY_LIMIT}"


def _in_words(error: Exception) -> str:
    """An agent's error has the guest's own words in it, as many as libvirt lets through."""
    name = "" if isinstance(error, AgentError) else f"{type(error).__name__}: "
    return clean(f"{name}{error}", ERROR_LIMIT)


def check_reply(reply: str, nonce: int) -> tuple[Failure | None, str]:
    """Is this the acknowledgement of this challenge? (None, "") if so."""
    if len(reply) > REPLY_LIMIT:
        return Failure.GARBLED, _too_long(reply)
    try:
        answer = json.loads(reply)
    except (ValueError, RecursionError):
        return Failure.GARBLED, "reply is not JSON"
    if isinstance(answer, dict) and type(answer.get("return")) is int and answer["return"] == nonce:
        return None, ""
    return Failure.GARBLED, "reply to another challenge"
