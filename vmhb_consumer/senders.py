"""Who may tell us of faults: what a node says concerns itself, and comes from a host that there is.

`vmhb_common.model.senders` judges signatures, `known_hosts` knows the hosts. What is not heard is counted, and said of
all together: whoever floods us does not fill our log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from vmhb_common.messaging import signing
from vmhb_common.messaging.sender_keys import Trusted
from vmhb_common.model.senders import CLOCKS, NotHeard, Role, SenderCheck, SenderSettings, Signed, judge
from vmhb_consumer.crowd import MOST, Crowd
from vmhb_consumer.known_hosts import Hosts, Known

#: The publisher's id of what consumers publish themselves: it is in the database already.
OURS = "nova-vmhb-consumer:"

NO_SUCH_HOST = (
    "Nova has no nova-compute on these hosts, and nothing that is said of them is heard: is [DEFAULT] host of their "
    "workers as nova-compute's, or are they made up?"
)


class Unheard(ValueError):
    """It is not acted on. The text says why in two or three words, for a counter."""


class Senders:
    """Of one consumer. Threads: any."""

    def __init__(
        self,
        settings: SenderSettings,
        hosts: Hosts,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """now: seconds since the epoch."""
        self.check = settings.check
        #: For so long (seconds) what is over is remembered: what was signed before may be an old one, sent again.
        self.memory = float("inf")
        self.trusted = Trusted(settings.trusted)
        self._hosts = hosts
        #: Of whom something was not heard before it is known whether there is such a host. A dict's steps are atomic.
        self._pending: dict[str, None] = {}
        self._now = now
        self._remarks = Crowd(logging.WARNING, again=False, now=monotonic)
        self._hints = Crowd(logging.INFO, again=False, now=monotonic)
        self._refusals = Crowd(logging.ERROR, again=True, now=monotonic)

    def say(self) -> None:
        """To be called every few seconds: what there is to be said."""
        for host in [*self._pending]:
            known = self._hosts.known(host)
            if known not in (Known.NOT_YET, Known.STARTING):
                self._pending.pop(host, None)
            if known is Known.UNKNOWN:
                self._refusals.met(NO_SUCH_HOST, host)
        for crowd in (self._remarks, self._hints, self._refusals):
            crowd.say()

    def hear(self, host: str, context: Any, publisher_id: Any, event_type: Any, payload: Any, metadata: Any) -> float:
        """May this be said of this host? How old it is, by its signature, seconds; 0 where that is not known. Raises
        Unheard."""
        self._there(host)
        if self.check is SenderCheck.OFF:
            return 0.0
        said, beside = (one if isinstance(one, Mapping) else {} for one in (context, metadata))
        signed = signing.notification(
            publisher_id, event_type, payload, beside.get("message_id"), beside.get("timestamp")
        )
        signature = self.trusted.check(said.get(signing.SEAL), signing.NOTIFICATION, signed)
        decision = judge(self.check, signature, Role.WORKER, host)
        if isinstance(decision, NotHeard):
            self._refuse(f"what is said of these hosts is not believed, it is {decision.why}", host, "sender")
        if decision.remark is not None:
            crowd = self._remarks if self.trusted.anybody else self._hints
            text = "what is said of these hosts is believed all the same ([faults] sender_check = warn), it is"
            crowd.met(f"{text} {decision.remark}", host)
        return self._age(host, signature.at) if isinstance(signature, Signed) else 0.0

    def hear_sign(
        self, host: str, context: Any, publisher_id: Any, event_type: Any, payload: Any, metadata: Any
    ) -> None:
        """The same of a sign of life, which says something of now only, and comes again."""
        if self._hosts.known(host) is Known.STARTING:
            raise Unheard("host")
        if self.hear(host, context, publisher_id, event_type, payload, metadata) > CLOCKS:
            text = (
                f"signs of life of these hosts were more than {CLOCKS:g} s old when they came, and are not heard: were"
            )
            self._hints.met(f"{text} they kept in the broker, or are clocks slow?", host)
            raise Unheard("age")

    def _age(self, host: str, at: float) -> float:
        age = self._now() - at
        if age >= -CLOCKS:
            return max(0.0, age)
        self._refuse(
            "the clocks of these hosts are fast, what they say can't be told from what was said before", host, "clock"
        )

    def _there(self, host: str) -> None:
        known = self._hosts.known(host)
        if known is Known.UNKNOWN:
            self._refuse(NO_SUCH_HOST, host, "host")
        if known is Known.NOT_YET:
            if len(self._pending) < MOST:
                self._pending[host] = None
            raise Unheard("host")

    def _refuse(self, text: str, host: str, kind: str) -> NoReturn:
        self._refusals.met(text, host)
        raise Unheard(kind)
