"""[faults]: who may tell this worker something."""

from __future__ import annotations

from vmhb_common.conf import senders
from vmhb_common.model.senders import WORKERS_KEY

GROUP = senders.GROUP
HELP = senders.HELP
OPTS = senders.options(WORKERS_KEY, "what this worker is told over RPC (policies, silences)", "consumers")
