"""Signs what is sent, and checks it: Ed25519. Knows neither who may say what, nor where keys are kept.

A signature is a line in the context of a message, beside what is sent: who does not know of it is not disturbed. It is
over all that is acted on, in one form (JSON, keys in order): the kind of message, who says it, when, and every value.
Public keys alone check: who reads the consumers' folder can sign nothing.

cryptography is loaded only where something is signed or checked: without keys nobody needs it.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from vmhb_common.model.senders import Forged, Signature, Signed, Unsigned

#: Where it stands in a message's context; and what a caller sends along to have the answer signed for this call only.
SEAL, NONCE = "vmhb_seal", "vmhb_nonce"
#: An answer that is signed is of these two.
SEALED = "vmhb_answer"
#: The kinds: what is signed as one is none of another.
NOTIFICATION, CAST, ANSWER = "notification", "cast", "answer"
#: The form above, as the first word of a signature.
FORM = "1"
#: A name, a time and 64 bytes are shorter.
MAX_SEAL = 512
#: Bytes of a key, public or private.
KEY = 32


class NoCryptography(Exception):
    """The library is not installed. The text says what to do."""


def _ed25519() -> Any:
    try:
        return importlib.import_module("cryptography.hazmat.primitives.asymmetric.ed25519")
    except ImportError as error:
        raise NoCryptography(f"{error}: install cryptography, of your distribution or by pip") from error


def _form(kind: str, name: str, at: str, content: Mapping[str, Any]) -> bytes:
    """ValueError, RecursionError where it is no JSON."""
    words = {"vmhb": FORM, "kind": kind, "name": name, "at": at, "content": content}
    return json.dumps(words, sort_keys=True, separators=(",", ":")).encode("ascii")


class PrivateKey:
    """One's own. Threads: any."""

    def __init__(self, seed: bytes) -> None:
        """seed: KEY bytes. Raises ValueError, NoCryptography."""
        self._key = _ed25519().Ed25519PrivateKey.from_private_bytes(seed)

    @property
    def public(self) -> bytes:
        """What checks its signatures, KEY bytes."""
        found: bytes = self._key.public_key().public_bytes_raw()
        return found

    def sign(self, name: str, kind: str, content: Mapping[str, Any], at: float | None = None) -> str:
        """name: as whom. content: JSON, all that is acted on. at: seconds since the epoch, by default now."""
        when = f"{time.time() if at is None else at:.3f}"
        signature = self._key.sign(_form(kind, name, when, content))
        return f"{FORM} {name} {when} {base64.b64encode(signature).decode('ascii')}"


def check(seal: Any, kind: str, content: Mapping[str, Any], keys: Mapping[str, Iterable[bytes]]) -> Signature:
    """seal: as it came, None where there is none. keys: by name, all that this one may sign with. Raises nothing but
    NoCryptography."""
    if seal is None:
        return Unsigned()
    parts = seal.split(" ") if isinstance(seal, str) and len(seal) <= MAX_SEAL else []
    if len(parts) != 4 or parts[0] != FORM:
        return Forged("signed in a form that is not known here")
    _, name, when, text = parts
    if name not in keys:
        return Forged("signed with a key that is not trusted")
    try:
        at, signature = float(when), base64.b64decode(text, validate=True)
        signed = _form(kind, name, when, content)
    except (ValueError, binascii.Error, RecursionError, TypeError):
        return Forged("signed wrongly")
    if not 0 <= at < 2**40 or not any(_fits(key, signature, signed) for key in keys[name]):
        return Forged("signed wrongly")
    return Signed(name, at)


def _fits(public: bytes, signature: bytes, signed: bytes) -> bool:
    invalid = importlib.import_module("cryptography.exceptions").InvalidSignature
    try:
        _ed25519().Ed25519PublicKey.from_public_bytes(public).verify(signature, signed)
    except (invalid, ValueError):
        return False
    return True


# -- what is signed of each kind ---------------------------------------------------------------------------------------


def notification(
    publisher_id: Any, event_type: Any, payload: Any, message_id: Any, timestamp: Any
) -> Mapping[str, Any]:
    """As a listener is handed it."""
    return {
        "publisher_id": publisher_id,
        "event_type": event_type,
        "payload": payload,
        "message_id": message_id,
        "timestamp": timestamp,
    }


def call(host: str, method: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a worker is told."""
    return {"host": host, "method": method, "arguments": arguments}


def opened(told: Any) -> tuple[Any, Any]:
    """An answer as it came: itself, and its signature. None: it has none, as of an older one, or one without a key."""
    if isinstance(told, Mapping) and told.keys() == {SEALED, SEAL}:
        return told[SEALED], told[SEAL]
    return told, None


def answer(host: str, method: str, arguments: Mapping[str, Any], nonce: Any, result: Any) -> Mapping[str, Any]:
    """What it answers, to this very question."""
    return {**call(host, method, arguments), "nonce": nonce, "result": result}
