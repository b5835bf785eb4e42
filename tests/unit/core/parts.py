"""The parts of a monitor, put together as it does, without the monitor."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from tests.unit.core.scenario import USUAL, WELL, policy
from vmhb_common.model.policy import Channel
from vmhb_worker.core.answers import Answers
from vmhb_worker.core.application_channel import Application
from vmhb_worker.core.asking import Asking
from vmhb_worker.core.domain_life import DomainLife
from vmhb_worker.core.evidence import Balloon, Evidence, Reading
from vmhb_worker.core.graces import Graces
from vmhb_worker.core.guest_system import GuestSystem
from vmhb_worker.core.instance_state import Absence
from vmhb_worker.core.investigation import Investigation
from vmhb_worker.core.silences import Silences
from vmhb_worker.core.suspicion import Suspicion
from vmhb_worker.core.witnesses import Witnesses


class Saying(Witnesses):
    """They say what a test lets them say."""

    evidence = Evidence()

    def gathered(self, now: float) -> Evidence:
        return self.evidence

    def say(self, **what: Any) -> None:
        self.evidence = replace(self.evidence, **what)

    def balloon(self, said: Balloon, at: float) -> None:
        self.say(balloon=Reading(said, at))


class Parts:
    """Of one guest that answered once; at 0.0."""

    def __init__(self, channel: Channel = Channel.AGENT, **knobs: Any) -> None:
        numbers = itertools.count(1)
        asked = policy(channel=channel, **knobs)
        self.silences = Silences()
        self.answers = Answers(0.0)
        self.application = Application(asked, USUAL, Absence(), lambda: f"nonce-{next(numbers)}", GuestSystem())
        self.graces = Graces(USUAL, lambda: self.application.in_force, WELL, 0.0)
        self.life = DomainLife(self.silences, self.graces, 0.0)
        self.asking = Asking("vm", self.application, self.answers, self.life, 0.0)
        host = Suspicion(USUAL.probe_interval, balloon_seen=True)
        self.witnesses = Saying(host, self.silences, self.life, self.answers, self.application)
        self.case = Investigation(self.witnesses, self.graces, None, 0.0)
