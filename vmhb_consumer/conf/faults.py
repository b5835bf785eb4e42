"""[faults]: who may tell this consumer of faults."""

from __future__ import annotations

from vmhb_common.conf import senders
from vmhb_common.model.senders import CONSUMERS_KEY

GROUP = senders.GROUP
HELP = senders.HELP
OPTS = senders.options(CONSUMERS_KEY, "faults and signs of life, and what workers answer,", "workers, by their hosts")
