"""libvirtd's texts in other languages, back into English. No libvirt here.

libvirtd writes its errors in the language of its own locale, and for one code of them only the text says who is spoken
of. What it may say in each language is in the catalogues that libvirt installs on the same host; where they are not to
be seen from here, its texts are not understood, and then are nobody's act.
"""

from __future__ import annotations

import gettext
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from oslo_log import log as logging

from vmhb_worker.core.spoken_of import known_text

LOG = logging.getLogger(__name__)

#: Where distributions, and builds of one's own, install them: LANGUAGE/LC_MESSAGES/libvirt.mo.
FOLDERS = (Path("/usr/share/locale"), Path("/usr/local/share/locale"))
#: What libvirt says under the code that says nothing by itself, in the words of its source.
MESSAGES = (
    "Guest agent not available for now",
    "guest agent didn't respond to synchronization command",
    "QEMU guest agent is not connected",
    "Guest agent disappeared while executing command",
    "QEMU guest agent is not available due to an error",
)


class Translations:
    """Of all languages at once: a few seconds' work, done when the first text comes that is not English. Any thread."""

    def __init__(self, folders: Sequence[Path] = FOLDERS) -> None:
        self._folders = folders
        self._lock = threading.Lock()
        self._english: Mapping[str, str] | None = None

    def english(self, text: str) -> str:
        """The same in English, where it is one of `MESSAGES`; as it is otherwise."""
        if known_text(text) is not None:
            return text
        with self._lock:
            if self._english is None:
                self._english = self._read()
        return next((english for other, english in self._english.items() if other in text), text)

    def _read(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for folder in self._folders:
            for path in sorted(folder.glob("*/LC_MESSAGES/libvirt.mo")):
                try:
                    with path.open("rb") as file:
                        catalogue = gettext.GNUTranslations(file)
                except (OSError, ValueError) as error:
                    LOG.info("%s cannot be read, going without: %s", path, error)
                    continue
                found |= {catalogue.gettext(message): message for message in MESSAGES}
        return found
