"""Nova finds our driver here as it does on a compute node: through the shim."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.nova.cloud import shim_in


@pytest.fixture(scope="session", autouse=True)
def shim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Beside the installed nova.virt rather than in it: other runs use this installation as well."""
    with shim_in(tmp_path_factory.mktemp("nova-virt")):
        yield
