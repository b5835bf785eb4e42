"""An HTTP server that notes what is posted to it: the one whom an alarm's or a workflow's action tells."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Posted:
    """One request, and when (monotonic seconds) it came."""

    at: float
    path: str
    body: Any


class Receiver:
    """Use as a context manager."""

    def __init__(self) -> None:
        self._came = threading.Condition()
        self._got: list[Posted] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                receiver._take(Posted(time.monotonic(), self.path, json.loads(body or b"null")))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._httpd.server_address[1]}/"

    def __enter__(self) -> Receiver:
        threading.Thread(target=self._httpd.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._httpd.shutdown()
        self._httpd.server_close()

    @property
    def got(self) -> list[Posted]:
        """All so far."""
        with self._came:
            return list(self._got)

    def wait(self, found: Callable[[Posted], bool], timeout: float = 60) -> Posted:
        """The first of which this holds."""
        deadline = time.monotonic() + timeout
        with self._came:
            while True:
                for one in self._got:
                    if found(one):
                        return one
                left = deadline - time.monotonic()
                assert left > 0, f"nothing like it was posted within {timeout:g} s: {self._got}"
                self._came.wait(left)

    def _take(self, one: Posted) -> None:
        with self._came:
            self._got.append(one)
            self._came.notify_all()
