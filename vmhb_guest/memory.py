"""What the next daemon must know: who has joined, and who has ended. In a file that the boot takes away, as it does
them.
"""

from __future__ import annotations

import json
import logging
import os
from typing import Any

from vmhb_guest import trust

LOG = logging.getLogger(__name__)

#: Bytes of the file: ten times of what can be in it.
MUCH = 16 << 20


class Memory:
    """One file. Not thread-safe."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._text = ""

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Remember these, if they are not what is remembered already."""
        text = json.dumps(rows)
        if text == self._text:
            return
        self._text = text
        try:
            with open(f"{self._path}.new", "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(f"{self._path}.new", self._path)
        except OSError as error:
            LOG.warning("%s can't be written, so a restart would forget who joined: %s", self._path, error)

    def read(self) -> list[Any]:
        """What is remembered; nothing, with a line in the log, where it can't be read."""
        try:
            why = trust.of_path(self._path)
            if why:  # who writes there would say who has joined
                raise OSError(why)
            with open(self._path, encoding="utf-8") as file:
                text = file.read(MUCH)
            rows = json.loads(text)
            if not isinstance(rows, list):
                raise ValueError("it is no list")
        except FileNotFoundError:
            return []
        except (OSError, ValueError, RecursionError) as error:
            LOG.warning("%s can't be read, so who joined before is not known: %s", self._path, error)
            return []
        self._text = text
        return rows
