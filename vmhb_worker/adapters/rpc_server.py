"""The RPC server: checks what it is sent, and hands it to the engine. Must not know what a call does.

Threads: oslo.messaging calls the endpoint from its own; each waits for the engine's answer. Nothing that arrives here
can do more harm than be refused.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

from vmhb_common.app.ration import Ration
from vmhb_common.messaging import broker, own_queue, replies
from vmhb_common.messaging.callers import Callers
from vmhb_common.messaging.no_eventlet import without_eventlet
from vmhb_common.model import ids
from vmhb_common.model.moments import moment
from vmhb_common.model.policy import MAX_KNOB, MAX_KNOBS
from vmhb_common.worker_api import (
    ANSWER_TIME,
    EXCHANGE,
    MAX_REASON,
    TOPIC,
    VERSION,
    InvalidArgument,
    WorkerBusy,
    WorkerFailed,
)
from vmhb_worker.core.guest_text import clean
from vmhb_worker.core.questions import Configure, EndSilence, ExpectSilence, List, Question, ReleaseBrake, Show

with without_eventlet():
    import oslo_messaging

LOG = logging.getLogger(__name__)

#: Puts a question to the engine and returns its answer: plain values that JSON can carry. Called from several threads.
#: Raises TimeoutError where there is none within ANSWER_TIME.
Call = Callable[[Question[Any]], Any]

#: Bounds of what callers may send.
MAX_KEY = 128
#: Thirty years: no time that anybody means. How much of it is granted is for the engine to say.
MAX_TIMEOUT = 1e9

#: Calls that are worked on at a time: each may wait ANSWER_TIME for the engine, and there is only one engine.
THREADS = 4


class Endpoint:
    """What can be called, as `worker_api` says it. Every argument is checked; what is wrong is refused."""

    target = oslo_messaging.Target(version=VERSION)

    def __init__(self, call: Call, callers: Callers | None = None) -> None:
        """callers: who may say what; None: everybody everything, and no answer is signed."""
        self._call = call
        self._callers = callers
        self._ration = Ration(LOG)  # whoever holds the broker's credentials may call without end

    def list(self, context: dict[str, Any]) -> Any:
        """The instances that are watched."""
        return self._answer(context, {}, List, List)

    def show(self, context: dict[str, Any], instance_uuid: Any) -> Any:
        """All that is known of one instance."""
        return self._answer(context, {"instance_uuid": instance_uuid}, Show, lambda: Show(uuid_of(instance_uuid)))

    def configure(self, context: dict[str, Any], *, instance_uuid: Any, policy: Any, observed_at: Any = None) -> Any:
        """What an instance's flavor asks for. Without its time, from callers that speak 1.0."""
        told = {"instance_uuid": instance_uuid, "policy": policy, "observed_at": observed_at}
        return self._obey(
            context,
            told,
            Configure,
            lambda: Configure(
                uuid_of(instance_uuid),
                knobs_of("policy", policy),
                None if observed_at is None else time_of("observed_at", observed_at),
            ),
        )

    def expect_silence(
        self, context: dict[str, Any], *, instance_uuid: Any, key: Any, reason: Any, timeout: Any, observed_at: Any
    ) -> Any:
        """No heartbeats for a while, and that is as it should be."""
        told = {"instance_uuid": instance_uuid, "key": key, "reason": reason, "timeout": timeout}
        return self._obey(
            context,
            {**told, "observed_at": observed_at},
            ExpectSilence,
            lambda: ExpectSilence(
                uuid_of(instance_uuid),
                text_of("key", key, MAX_KEY),
                text_of("reason", reason, MAX_REASON),
                seconds_of("timeout", timeout, MAX_TIMEOUT),
                time_of("observed_at", observed_at),
            ),
        )

    def end_silence(self, context: dict[str, Any], *, instance_uuid: Any, key: Any, observed_at: Any) -> Any:
        """That while is over."""
        return self._obey(
            context,
            {"instance_uuid": instance_uuid, "key": key, "observed_at": observed_at},
            EndSilence,
            lambda: EndSilence(
                uuid_of(instance_uuid), text_of("key", key, MAX_KEY), time_of("observed_at", observed_at)
            ),
        )

    def release_brake(self, context: dict[str, Any], *, reason: Any) -> Any:
        """An operator lets recoveries through."""
        told = {"reason": reason}
        return self._obey(context, told, ReleaseBrake, lambda: ReleaseBrake(text_of("reason", reason, MAX_REASON)))

    def _obey(
        self,
        context: dict[str, Any],
        told: Mapping[str, Any],
        kind: type[Question[Any]],
        check: Callable[[], Question[Any]],
    ) -> Any:
        """What changes something is not everybody's to say."""

        def allowed() -> Question[Any]:
            refusal = self._callers and self._callers.refusal(context, kind.method, told)
            if refusal:
                raise InvalidArgument(f"{kind.method} is {refusal}")
            return check()

        return self._answer(context, told, kind, allowed)

    def _answer(
        self,
        context: dict[str, Any],
        told: Mapping[str, Any],
        kind: type[Question[Any]],
        check: Callable[[], Question[Any]],
    ) -> Any:
        result = self._put(kind, check)
        return result if self._callers is None else self._callers.sealed(context, kind.method, told, result)

    def _put(self, kind: type[Question[Any]], check: Callable[[], Question[Any]]) -> Any:
        """Check, call, and turn whatever goes wrong into one of the contract's exceptions."""
        name = kind.method
        try:
            return self._call(check())
        except InvalidArgument as error:
            self._ration.say(logging.WARNING, "RPC %s refused: %s", name, error)
            failure: Exception = error
        except TimeoutError:
            text = "RPC %s: the engine did not answer within %g s"
            self._ration.say(logging.WARNING, text, name, ANSWER_TIME)
            failure = WorkerBusy(f"{name}: no answer within {ANSWER_TIME:g} s, try again")
        except Exception:
            self._ration.say(logging.ERROR, "RPC %s failed", name, exc_info=True)
            failure = WorkerFailed(f"{name}: an error of the worker's own, see its log")
        return _refuse(failure)


def _refuse(failure: Exception) -> None:
    """Send it to the caller without oslo.messaging's own traceback in our log."""
    try:
        raise failure.with_traceback(None)
    except Exception as error:
        raise oslo_messaging.ExpectedException() from error


# -- arguments ---------------------------------------------------------------------------------------------------------


def uuid_of(value: Any) -> str:
    """A uuid in its usual form, in lower case."""
    try:
        return ids.uuid_of(value)
    except ValueError:
        raise InvalidArgument(f"instance_uuid is {_quote(value)}: say a uuid, such as {ids.EXAMPLE}") from None


def text_of(name: str, value: Any, limit: int) -> str:
    """Some text, what does not print in it made harmless."""
    if isinstance(value, str) and value.strip() and len(value) <= limit:
        return clean(value, limit)
    raise InvalidArgument(f"{name} is {_quote(value)}: say a text of 1 to {limit} characters")


def knobs_of(name: str, value: Any) -> dict[str, str]:
    """Knobs by their bare names, as text: what can't be printed, and XML can't carry, made harmless.

    What they mean is not looked at. A knob that is not known may be a newer one's.
    """
    if not isinstance(value, dict) or len(value) > MAX_KNOBS:
        raise InvalidArgument(f"{name} is {_quote(value)}: say a mapping of knobs to texts, {MAX_KNOBS} at most")
    for knob, text in value.items():
        if not (_is_short(knob) and knob and knob.isprintable() and _is_short(text)):
            told = f"{_quote(knob)}: {_quote(text)}"
            raise InvalidArgument(f"{name} has {told}: say texts of {MAX_KNOB} characters at most, by the knobs' names")
    return {clean(knob, MAX_KNOB): clean(text, MAX_KNOB) for knob, text in value.items()}


def _is_short(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_KNOB


def seconds_of(name: str, value: Any, limit: float) -> float:
    """A number of seconds, above 0."""
    # A whole number may be too large for a float: compare before converting.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and 0 < value <= limit and math.isfinite(value):
        return float(value)
    raise InvalidArgument(f"{name} is {_quote(value)}: say seconds, above 0, {limit:g} at most")


def time_of(name: str, value: Any) -> datetime:
    """An ISO 8601 time, aware. One without a zone is in UTC, as Nova's are."""
    try:
        when = moment(value)
        return when.replace(tzinfo=timezone.utc) if when.tzinfo is None else when.astimezone(timezone.utc)
    except (TypeError, ValueError, OverflowError):
        raise InvalidArgument(
            f"{name} is {_quote(value)}: say an ISO 8601 time, such as 2026-01-31T12:00:00Z"
        ) from None


def _quote(value: Any) -> str:
    """Somebody else's value, made fit for a log line. Not whatever it is: to write it out may fail, or take long."""
    if isinstance(value, str):
        text = ascii(value[:60])
    else:
        text = repr(value) if isinstance(value, float | bool | type(None)) else type(value).__name__
    return text if len(text) <= 80 else text[:80] + "..."


# -- the server --------------------------------------------------------------------------------------------------------


class Server(broker.Background):
    """Listens for calls to this host, from `start` until `stop`. Neither of them waits for the broker."""

    def __init__(
        self,
        transport: Any,
        host: str,
        call: Call,
        why: Callable[[], str | None] = lambda: None,
        callers: Callers | None = None,
        own_queue_only: bool = False,
    ) -> None:
        """why: as `brokers.Background`. callers: as `Endpoint`. own_queue_only: see the option of that name."""
        target = oslo_messaging.Target(exchange=EXCHANGE, topic=TOPIC, server=host, version=VERSION)
        endpoint = Endpoint(call, callers)

        def make() -> Any:
            policy = oslo_messaging.DefaultRPCAccessPolicy
            server = replies.careful(oslo_messaging.get_rpc_server(transport, target, [endpoint], access_policy=policy))
            if own_queue_only:
                own_queue.serve_own_queue_only(server)
            return server

        super().__init__(f"RPC is served to {EXCHANGE} as {host}", "RPC cannot be served", make, THREADS, why)
