"""Who may tell a worker something over RPC, and how it proves what it answers. Knows no call's meaning.

What changes nothing anybody may ask, as before: `show`, `list`. What does is a consumer's to say, and once: whoever
could read it where it waited has its signature, too. What is told with a time of its own (`observed_at`) changes
nothing when it comes again, while that time is remembered; all else is heard once, and soon.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from vmhb_common.messaging import signing
from vmhb_common.messaging.sender_keys import Own, Trusted
from vmhb_common.model.senders import (
    CLOCKS,
    Forged,
    NotHeard,
    Role,
    SenderCheck,
    SenderSettings,
    Signature,
    Signed,
    judge,
)
from vmhb_common.model.silences import MAX_SILENCE

LOG = logging.getLogger(__name__)

#: A caller's own number of its call has so many characters at most.
MAX_NONCE = 64


class Callers:
    """Of one worker. Threads: any."""

    def __init__(
        self, host: str, settings: SenderSettings, own: Own | None = None, now: Callable[[], float] = time.time
    ) -> None:
        """host: the worker's own. own: the key that it answers with. now: seconds since the epoch."""
        self._now = now
        self._lock = threading.Lock()
        #: What was heard that has no time of its own: its signature, and when that was made.
        self._heard: dict[str, float] = {}
        self._host = host
        self._own = own
        self._trusted = Trusted(settings.trusted)
        self._said: set[str] = set()
        self.check = settings.check

    def refusal(self, context: Any, method: str, arguments: Mapping[str, Any]) -> str | None:
        """Why this is not done; None: it is."""
        if self.check is SenderCheck.OFF:
            return None
        seal = context.get(signing.SEAL) if isinstance(context, Mapping) else None
        told = {name: value for name, value in arguments.items() if value is not None}
        signature = self._trusted.check(seal, signing.CAST, signing.call(self._host, method, told))
        if isinstance(signature, Signed):
            signature = self._if_new(signature, str(seal), "observed_at" in told)
        decision = judge(self.check, signature, Role.CONSUMER, None)
        if isinstance(decision, NotHeard):
            return f"{decision.why}: only a consumer whose key is trusted may say this: see [faults] sender_check"
        if decision.remark is not None and decision.remark not in self._said:
            self._said.add(decision.remark)  # a few texts
            level = logging.WARNING if self._trusted.anybody else logging.INFO
            LOG.log(
                level, "what this worker is told is %s, and acted on: [faults] sender_check = warn", decision.remark
            )
        return None

    def _if_new(self, signature: Signed, seal: str, has_time: bool) -> Signature:
        """What was signed long ago, or was heard before, proves nothing. has_time: it may come late, as from a queue
        that waited for us: as long as an end of it is remembered."""
        now = self._now()
        if not -CLOCKS <= now - signature.at <= (MAX_SILENCE if has_time else CLOCKS):
            return Forged("signed too long ago, or by a clock that is fast")
        if has_time:
            return signature
        with self._lock:
            # Only what a trusted key has signed is kept, and for as long as it would be heard.
            self._heard = {one: at for one, at in self._heard.items() if now - at <= CLOCKS}
            if seal in self._heard:
                return Forged("sent again")
            self._heard[seal] = signature.at
        return signature

    def sealed(self, context: Any, method: str, arguments: Mapping[str, Any], result: Any) -> Any:
        """The answer, signed where the caller wants that, and there is a key."""
        return sealed(self._own, self._host, context, method, arguments, result)


def sealed(own: Own | None, host: str, context: Any, method: str, arguments: Mapping[str, Any], result: Any) -> Any:
    """The answer of whoever was asked as `host`, signed where the caller wants that, and there is a key."""
    nonce = context.get(signing.NONCE) if isinstance(context, Mapping) else None
    if own is None or not isinstance(nonce, str) or len(nonce) > MAX_NONCE:
        return result
    plain = json.loads(json.dumps(result))
    seal = own.sign(signing.ANSWER, signing.answer(host, method, arguments, nonce, plain))
    return result if seal is None else {signing.SEALED: plain, signing.SEAL: seal}
