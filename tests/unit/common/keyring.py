"""Keys for tests, and a clock for whoever looks at their files."""

from __future__ import annotations

import os

from vmhb_common.messaging.sender_keys import LOOK
from vmhb_common.messaging.signing import PrivateKey


def a_pair() -> tuple[PrivateKey, bytes]:
    """A new one: private and public."""
    key = PrivateKey(os.urandom(32))
    return key, key.public


class Looks:
    """A clock on which a file is looked at again once time `passes`."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def passes(self) -> None:
        """As long as it takes."""
        self.now += LOOK
