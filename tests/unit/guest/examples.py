"""How hypothesis runs here: the same examples each time, and a busy machine is no failure."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

EXAMPLES = settings(derandomize=True, max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
