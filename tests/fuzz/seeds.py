"""What the fuzzer begins with: an input or two for each ear, and the words that inputs are made of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_CHECKS = '{"status":"unhealthy","checks":[{"name":"db","status":"degraded","message":"slow"}]}'
#: A fault as the worker keeps it.
KEPT_FAULT: dict[str, Any] = {
    **{"fault_id": "f", "sequence": 1, "state": "raised", "severity": "critical", "cause": "guest_hung"},
    **{"confidence": "high", "recommended_action": "alarm", "withheld": None, "drill": False, "recovery_attempt": 0},
    **{"resolution": None, "host": "h", "instance_uuid": None, "instance_name": None, "misses": 3, "skipped": 0},
    **{"display_name": None, "project_id": None, "flavor_name": None, "channel": "agent", "threshold": 3},
    **{"interval": 10.0, "timeout": 5.0, "last_ack_at": None, "suspected_at": None, "cleared_at": None, "reason": "r"},
    **{"occurred_at": "2026-01-02T03:04:05+00:00", "raised_at": "2026-01-02T03:04:05+00:00"},
    **{"evidence": {}, "health": None},
}
#: Of all years, and of none.
_DATES = (
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-02-30T00:00:00+00:00", "2026-01-01T00:00:00"),
    *("٢٠٢٦-01-01T00:00:00+00:00", "2026-W01-1", "1969-12-31T23:59:59Z"),
)
_LONG = ("a", "b" * 64, "b" * 52 + "[1]", "b" * 50 + "'[1]")
_ROW = (
    '{"name":"a","asked":"a","interval":5.0,"ended":false,"status":"healthy","gave_up":false,"unit":"","keeper":"",'
    '"program":"7","sender":{"pid":7,"uid":33,"command":"c","born":1,"interval":null},"named":true,"processes":'
    '[{"sender":{"pid":7,"uid":33,"command":"c","born":1},"sure":true,"former":false}]}'
)
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
    (1, '{"return":"frozen"}'),
    (1, '{"return":{"id":"mswindows","kernel-version":"#1"}}'),
    (1, '{"return":7}'),
    (0, '{"type":"hello","version":1,"name":"\\u202e\\ud800\\u0000","system":"٣","interval":1e-9}\n'),
    (7, "unable to execute QEMU agent command 'guest-exec': The command guest-exec has been disabled\x1b[31m\u202e"),
    (7, "Failed to execute child process: No such file or directory"),
    *((8, f'{{"occurred_at":"{when}"}}') for when in _DATES),
    (8, '{"interval":NaN,"misses":1e400,"threshold":true,"evidence":[],"state":"x","drill":0,"host":"\\ud800"}'),
    (8, "[[1.5,2.5],[1,NaN]]"),
    (9, '{"fault_id":"\u0660f0e0d0c-5b7d-4d4b-9a57-0c8f5b1f7c11","occurred_at":"0001-01-01T00:00:00Z","misses":1e999}'),
    (9, '{"host":"cn\\ud800","evidence":{"x":[[[[NaN]]]]},"suspected_at":"9999-12-31T23:59:59-14:00","sequence":2}'),
    (9, '{"started_at":"1970-01-01","interval":-1,"instances":true,"health":{"status":"\\u0000"},"state":"cleared"}'),
    (
        10,
        '{"uuid":"../flavors","host":"a.#","flavor":{"nova_object.version":"2.0","nova_object.data":{"extra_specs":{}}}}',
    ),
    (10, '{"timestamp":"0001-01-01T00:00:00+14:00","state":"\\udfff","task_state":"x","action_initiator_user":null}'),
    (
        11,
        '{"policy":{"inter\\ud800val":"\\u0000"},"timeout":1e308,"key":" ","observed_at":"24:00","instance_uuid":[[]]}',
    ),
    (4, "X-VMHB-HEALTH=unhealthy\nSTATUS=x\0X-VMHB-HEALTH=healthy\nX-VMHB-NAME=a"),
    (5, "\0".join(f"X-VMHB-NAME={name}\nX-VMHB-HEALTH=unhealthy\nSTATUS=²" for name in (*_LONG, "a", "c"))),
    (6, f"[{_ROW}]"),
    (6, "root,@vmhb ²"),
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
