"""What a server of ours for RPC does with calls that are none, and with answers that nobody waits for. Knows no method.

Whoever may write into a server's queue says himself where the answer is to go. oslo.messaging sends it there, be it
another's queue; where there is no such queue it tries for a minute, in one of the few threads that answer; and it says
so in his words, as it says with a traceback each call that makes no sense. So: an answer goes to a queue for answers,
at once or not at all, and what is said of all that is rationed. What is relied on was read in oslo.messaging 17.3 to
18.3.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from vmhb_common.app.ration import Ration
from vmhb_common.messaging.no_eventlet import without_eventlet

with without_eventlet():
    import oslo_messaging
    from oslo_messaging._drivers import impl_rabbit

LOG = logging.getLogger(__name__)

#: Seconds for which a queue is waited for that is not there. Whoever calls makes it before, and comes again.
WAIT = 0.0
#: Queues as oslo.messaging makes them for answers, also with `use_queue_manager`; and its number of a call.
_QUEUE = re.compile(r"reply_[!-~]{1,240}")
_CALL = re.compile(r"[0-9a-f]{32}")


def careful(server: Any) -> Any:
    """The same server, not yet started."""
    driver = server.transport._driver
    if isinstance(driver, impl_rabbit.RabbitDriver):
        driver.missing_destination_retry_timeout = WAIT
    dispatch = server.dispatcher.dispatch
    ration = Ration(LOG)

    def carefully(incoming: Any) -> Any:
        if not _answerable(incoming):
            ration.say(logging.WARNING, "a call is dropped: where its answer is to go is no queue for answers")
            incoming.orig_msg_id = None  # so that none is sent
            return None
        try:
            return dispatch(incoming)
        except oslo_messaging.ExpectedException:
            raise
        except Exception as error:
            ration.say(logging.WARNING, "a call makes no sense: %s: %.200s", type(error).__name__, ascii(str(error)))
            raise oslo_messaging.ExpectedException() from error

    server.dispatcher.dispatch = carefully
    return server


def _answerable(incoming: Any) -> bool:
    """Is it a cast, of another driver, or to be answered where answers go?"""
    call, queue = getattr(incoming, "orig_msg_id", None), getattr(incoming, "reply_q", None)
    if not call and queue is None:
        return True
    if not (isinstance(call, str) and isinstance(queue, str)):
        return False
    return bool(_CALL.fullmatch(call) and _QUEUE.fullmatch(queue))
