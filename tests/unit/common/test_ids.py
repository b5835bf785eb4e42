"""An id is what it looks like, or it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from vmhb_common.model.ids import EXAMPLE, uuid_of

GOOD = "0f0e0d0c-5b7d-4d4b-9a57-0c8f5b1f7c11"


def test_a_uuid() -> None:
    """As everybody writes it."""
    assert uuid_of(GOOD) == uuid_of(GOOD.upper()) == GOOD
    assert uuid_of(EXAMPLE) == EXAMPLE


@pytest.mark.parametrize(
    "value",
    [
        *(None, 7, [GOOD], {}, b"x", "", "self", "../../os-keypairs", f"{GOOD}/action", f"{GOOD}?all_tenants=1"),
        *(f"{GOOD}#", f"{GOOD}\n", f" {GOOD}", f"{{{GOOD}}}", f"urn:uuid:{GOOD}", GOOD.replace("-", "")),
        *(GOOD.replace("0", "\u0660"), GOOD.replace("0", "\uff10"), GOOD[:-1] + "\ud800", "%2e%2e/flavors", "g" * 36),
    ],
    ids=ascii,
)
def test_nothing_else(value: Any) -> None:
    """Another path, another way of writing one, digits of another script."""
    with pytest.raises(ValueError, match="a uuid is required"):
        uuid_of(value)
