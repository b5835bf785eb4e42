"""Every line of the log can be written: a lone surrogate, which is no text in any encoding, is shown as `\\ud800`.

Such come from JSON that others wrote, and from bytes of a command line, a path or a host's name that are no UTF-8. To
write one out fails: then there is a traceback of logging's own instead of a line. Knows nothing of what is said.
"""

from __future__ import annotations

import logging


def legible(text: str) -> str:
    """The same, as far as it can be written."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


class _Legible(logging.Filter):
    """Lets everything through."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            said = record.getMessage()
        except Exception:  # a mistake in how it is said: logging tells that, and raises nothing
            return True
        if (shown := legible(said)) != said:
            record.msg, record.args = shown, ()
        if record.exc_info and not record.exc_text:
            told = logging.Formatter().formatException(record.exc_info)
            if (shown := legible(told)) != told:
                record.exc_text = shown
        return True


def make_legible() -> None:
    """Of all that is logged from now on. Again after the log's own configuration was read again."""
    for handler in logging.getLogger().handlers:
        if not any(isinstance(one, _Legible) for one in handler.filters):
            handler.addFilter(_Legible())
