"""What the HTTP answer of an OpenStack API means: what was asked for, its absence, a refusal, or nothing at all.

Pure. Before an API there are proxies, load balancers and ingresses, and each of them answers in its own name while the
API is being redeployed: with 404, 400 or 503, with a page for people, and after a redirect even with 200. So what an
answer means is read from a body that only the API itself writes; whatever has none was not said by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Around the body of an error, as Nova and Masakari name it: `nova.api.openstack.wsgi.Fault._fault_names` and
#: `masakari.api.openstack.wsgi.Fault._fault_names`, the same words in both.
ABSENT = "itemNotFound"
REFUSALS = {400: "badRequest", 409: "conflictingRequest"}
OK = range(200, 203)
NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Found:
    """What was asked for: a JSON object, or a list."""

    value: Any


@dataclass(frozen=True, slots=True)
class Absent:
    """The API itself says that there is no such thing."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The API itself understood, and said no. text: its own."""

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """Who answered, and what about, can't be known from it. why: to go after the API's name; code: the HTTP status."""

    why: str
    code: int


Meaning = Found | Absent | Refusal | Unclear


def read(answer: Any, wanted: str, kind: type = dict) -> Meaning:
    """answer: has a `status_code` and `json()`, as a response of requests. wanted: the key that a good one has what was
    asked for under, of this kind."""
    code, body = int(answer.status_code), _json(answer)
    if code in OK and isinstance(body.get(wanted), kind):
        return Found(body[wanted])
    if code == NOT_FOUND and isinstance(body.get(ABSENT), Mapping):
        return Absent()
    said = body.get(REFUSALS.get(code, ""))
    if isinstance(said, Mapping) and isinstance(said.get("message"), str):
        return Refusal(code, said["message"])
    return Unclear(f"answers {code}", code)


def _json(answer: Any) -> Mapping[str, Any]:
    """Nothing where it is no JSON object."""
    try:
        body = answer.json()
    except (ValueError, RecursionError):  # what is no UTF-8 is a ValueError, too
        return {}
    return body if isinstance(body, Mapping) else {}
