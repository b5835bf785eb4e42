"""What an HTTP answer means, whoever wrote it: Nova, Masakari, or something between them and us."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from vmhb_consumer.reporters import answers
from vmhb_consumer.reporters.answers import Absent, Found, Meaning, Refusal, Unclear

ABSENT = {"itemNotFound": {"code": 404, "message": "Instance x could not be found."}}


def answer(code: int, body: Any) -> requests.Response:
    """body: what is sent as JSON, or as it is."""
    made = requests.Response()
    made.status_code = code
    made._content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return made


@pytest.mark.parametrize(
    ("code", "body", "means"),
    [
        (200, {"server": {"id": "x"}}, Found({"id": "x"})),
        (202, {"server": {}}, Found({})),
        (404, ABSENT, Absent()),
        (400, {"badRequest": {"code": 400, "message": "no such host"}}, Refusal(400, "no such host")),
        (409, {"conflictingRequest": {"code": 409, "message": "twice"}}, Refusal(409, "twice")),
    ],
)
def test_what_the_api_itself_says(code: int, body: Any, means: Meaning) -> None:
    """Each in the words that only the API has for it."""
    assert answers.read(answer(code, body), "server") == means


@pytest.mark.parametrize(
    "code", [100, 200, 202, 204, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 409, 410, 413, 429, 500, 502, 503]
)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"default backend - 404",
        b"<html><h1>404 Not Found</h1></html>",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"null",
        b'"itemNotFound"',
        {},
        [],
        ["itemNotFound"],
        {"message": "no Route matched with those values"},
        {"itemNotFound": None},
        {"itemNotFound": "server"},
        {"server": None},
        {"server": []},
        {"server": "x"},
        {"badRequest": "x", "conflictingRequest": {"code": 409}},
        {"versions": []},
    ],
    ids=lambda body: repr(body)[:30],
)
def test_what_somebody_else_says_means_nothing(code: int, body: Any) -> None:
    """Neither the thing, nor that it is absent, nor a refusal: whatever the status."""
    assert answers.read(answer(code, body), "server") == Unclear(f"answers {code}", code)


@pytest.mark.parametrize("code", [200, 201, 300, 302, 400, 401, 403, 409, 410, 500, 503])
def test_absence_needs_its_status_as_well(code: int) -> None:
    """A body alone does not say it."""
    assert isinstance(answers.read(answer(code, ABSENT), "server"), Unclear)


def test_a_list_is_asked_for_as_such() -> None:
    """What is under the right key, and of another kind, was not asked for."""
    assert answers.read(answer(200, {"actions": [1]}), "actions", list) == Found([1])
    assert answers.read(answer(200, {"actions": {}}), "actions", list) == Unclear("answers 200", 200)
