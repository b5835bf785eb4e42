"""What the tests' own programs promise."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

OWNER = """
from tests.stage.consumer import ConsumerProcess
print(ConsumerProcess("fake://").pid, flush=True)
input()
"""


def test_a_consumer_outlives_nobody() -> None:
    """Whoever started it is killed without a word, as by a watchdog: it ends, too."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        consumer = os.pidfd_open(int(owner.stdout.readline()))
        assert not select.select([consumer], [], [], 0)[0]
        owner.send_signal(signal.SIGKILL)
    ended, _, _ = select.select([consumer], [], [], 30)
    os.close(consumer)
    assert ended
