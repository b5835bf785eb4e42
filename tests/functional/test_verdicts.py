"""A fault has the right cause, in time, with its evidence, and is cleared: on real guests, through a real broker."""

from __future__ import annotations

import pytest

from tests.conftest import Figure, Repetitions
from tests.functional.conftest import DETECTION, Guests, Workers
from tests.stage.consumer import ConsumerProcess


def test_a_stopped_agent(guests: Guests, worker: Workers, consumer: ConsumerProcess, figure: Figure) -> None:
    """x"""
    guest = guests.get()
    daemon = worker()
    daemon.wait_known(guest.uuid)
    stopped = guest.stop_agent()
    raised = consumer.wait_fault("raised", guest.uuid, 10, since=stopped)
    figure("stopped agent until raised", raised.at - stopped, "s", DETECTION)
    guest.continue_agent()
