"""What the fuzzer begins with: an input or two for each ear, and the words that inputs are made of."""

from __future__ import annotations

import re
from pathlib import Path

_CHECKS = '{"status":"unhealthy","checks":[{"name":"db","status":"degraded","message":"slow"}]}'
_LONG = ("a", "b" * 64, "b" * 52 + "[1]", "b" * 50 + "'[1]")
SEEDS = (
    (
        0,
        '\n\n{"type":"hello","version":1,"name":"web","interval":0.5,"timeout":0.2}\n{"type":"goodbye","reason":"b"}\n',
    ),
    (0, f'\x40{{"type":"ack","seq":7,"nonce":"n","health":{_CHECKS}}}\n{{"type":"ack","seq":1,"nonce":"0f3a"}}\n'),
    (0, '\x07{"type":"maintenance","seconds":60.5,"reason":"r"}\n{"type":"error","code":"not_now","detail":"d"}\n'),
    (1, '{"return":{"pid":7}}'),
    (1, '{"return":{"exited":true,"exitcode":1,"out-data":"c2xvdw=="}}'),
    (1, '{"return":{"exited":true,"signal":11}}'),
    (1, '{"return":{"exited":false}}'),
    (2, f"\x01{_CHECKS}"),
    (2, "\x00all is well\n"),
    (3, '\n\n{"type":"challenge","seq":1,"nonce":"abc","health":true}\n{"type":"welcome","version":1,"interval":1}\n'),
    (3, '\x09{"type":"error","code":"x","detail":"y"}\n{"type":"notice","event":"e","deadline":null}\n'),
    (
        4,
        "READY=1\nX-VMHB-NAME=a\nWATCHDOG_USEC=500000\0WATCHDOG=1\nSTATUS=s\0STOPPING=1\0WATCHDOG=trigger\0MAINPID=2\nREADY=1",
    ),
    (3, '{"type":"welcome","version":1,"interval":1e999}\n{"type":"challenge","seq":-1,"nonce":"\\u00b2"}\n'),
    (3, f'{{"type":"welcome","version":1,"interval":1{"0" * 400}}}\n'),
    (4, "WATCHDOG_USEC=²\0WATCHDOG_USEC=1①\0WATCHDOG_USEC=٣٤\0WATCHDOG_USEC=+1_0\0X-VMHB-NAME=\u202e[1]"),
    # As names may be at their longest, and as they are made where those are taken: of process 1, which comes last.
    (4, "\0".join(f"X-VMHB-NAME={name}" for name in (*_LONG, "x", "x", "x", _LONG[1]))),
    (4, "X-VMHB-HEALTH=unhealthy\nSTATUS=x\0X-VMHB-HEALTH=healthy\nX-VMHB-NAME=a"),
)


def _words() -> list[str]:
    """What inputs are made of: every word, number and brace of the seeds."""
    texts = "".join(text for _, text in SEEDS)
    words = [*re.findall(r'"[\w-]+":?|[\w-]+=|[\d.]+|\w+|[{}\[\],]', texts), "null", "NaN", "1e999", "\\ud800", "\\n"]
    words += [
        "²",
        "①",
        "٣",
        "1" + "0" * 400,
        "b" * 50,
        "b" * 64,
        *(f"{mark}[{pid}]" for mark in ("", "'") for pid in range(8)),
    ]
    return list(dict.fromkeys(words))


def prepare(folder: Path) -> None:
    """The seeds, and the dictionary, for libFuzzer."""
    (folder / "seeds").mkdir()
    for number, (ear, text) in enumerate(SEEDS):
        (folder / "seeds" / str(number)).write_bytes(bytes([ear]) + text.encode())
    rows = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in _words())
    (folder / "words").write_text("".join(f'"{row}"\n' for row in rows))
