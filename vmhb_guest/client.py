"""For Python applications that would rather not speak sd_notify themselves. Copy it: it needs nothing else.

notify(ready=1, name="billing", watchdog_usec=5_000_000)   # joined; hung if silent for 5 s
notify(watchdog=1)                                         # still here
notify(health="degraded", status="replica is 40 s behind")
notify(stopping=1)                                         # left; to end without it is a fault
"""

import os
import socket
import struct
import threading
import time

ADDRESS = "/run/vmhb/notify"
#: Seconds to try at most, where others fill the socket at this moment, or vmhb-guest is being started anew; and for one
#: try, as a struct timeval.
PATIENCE, ONCE = 0.3, struct.pack("ll", 0, 100_000)

_unheard: "dict[str, object]" = {}
_lock = threading.Lock()


def notify(**said: object) -> bool:
    """Tell vmhb-guest; False where it did not hear. Returns within 0.4 s, never raises. Any thread of any one process.

    What was not heard is said with the next call, unless that says otherwise: who began before vmhb-guest joins later.
    """
    with _lock:
        if "stopping" in said:
            _unheard.clear()
        told = {**_unheard, **said}
        heard = _send("\n".join(_row(key, value) for key, value in told.items()).encode("utf-8", "replace"))
        _unheard.clear()
        if not heard and "stopping" not in said:
            _unheard.update(told)
    return heard


def _row(key: str, value: object) -> str:
    return (("X-VMHB-" if key in ("name", "health") else "") + f"{key.upper()}={value}").replace("\n", " ")


def _send(data: bytes) -> bool:
    until = time.monotonic() + PATIENCE
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, ONCE)
        while True:
            try:
                one.sendto(data, os.environ.get("VMHB_NOTIFY", ADDRESS))
            except (BlockingIOError, ConnectionRefusedError, InterruptedError) as error:
                if time.monotonic() >= until:
                    return False
                if isinstance(error, ConnectionRefusedError):
                    time.sleep(0.02)
            except OSError:
                return False
            else:
                return True
