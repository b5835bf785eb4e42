"""Serves one WSGI application on loopback: `python -m tests.cloud.serve MODULE[:FACTORY] PORT [ARGUMENT ...]`.

The arguments are the application's: several of OpenStack's read `sys.argv`.
"""

from __future__ import annotations

import importlib
import sys

#: A request that waits for another service must not keep others waiting.
THREADS = 4


def main() -> None:
    """Until it is ended."""
    what, port, *arguments = sys.argv[1:]
    module, _, factory = what.partition(":")
    sys.argv = [module.partition(".")[0], *arguments]  # the first one names log files
    loaded = importlib.import_module(module)
    application = getattr(loaded, factory)() if factory else loaded.application
    from waitress import serve  # noqa: PLC0415 -- after the application, which may replace parts of the library

    serve(application, host="127.0.0.1", port=int(port), threads=THREADS, ident=None, channel_timeout=600)


if __name__ == "__main__":
    main()
