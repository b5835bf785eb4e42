"""Every table by which values find their handler is total: a kind that is new has a row, or a test fails."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from vmhb_common.worker_api import WorkerAPI
from vmhb_worker.adapters.rpc_server import Endpoint
from vmhb_worker.core import consequences as co
from vmhb_worker.core import course, domain_life, mishaps, monitor, protocol, questions
from vmhb_worker.core import events as ev
from vmhb_worker.engine import calls, loop, provisioner

#: What the engine posts to itself, besides the reports of the adapters.
OWN = {loop._Call, loop._Decided, loop._PeriodStored}


def kinds(union: Any) -> set[type[Any]]:
    return set(typing.get_args(union))


TABLES: dict[str, tuple[Mapping[Any, Any], set[type[Any]]]] = {
    "events, to the monitor": (monitor._HANDLERS, kinds(ev.Event)),
    "events of libvirt's, to the domain's life": (domain_life.TOLD, kinds(domain_life.Told)),
    "what a monitor's parts want done": (course.CARRIED_OUT, kinds(co.Own)),
    "events that could not be handled": (mishaps.INSTEAD, kinds(ev.Event)),
    "reports, to the engine": (loop._REPORTS, kinds(ev.Report) | OWN),
    "effects, to the engine": (loop._EFFECTS, kinds(ev.Effect)),
    "steps that were done": (provisioner._DONE, kinds(ev.Step)),
    "steps that were not": (provisioner._NOT_DONE, kinds(ev.Step)),
    "messages, onto the wire": (protocol._FIELDS, kinds(protocol.Message)),
    "questions, to the engine": (calls._ANSWERS, kinds(questions.Asked)),
}
#: Those whose handlers say in their signature what they take, and where it stands there.
METHODS: dict[str, tuple[Mapping[type[Any], Callable[..., Any]], int]] = {
    "events, to the monitor": (monitor._HANDLERS, 1),
    "events of libvirt's, to the domain's life": (domain_life.TOLD, 1),
    "what a monitor's parts want done": (course.CARRIED_OUT, 1),
    "reports, to the engine": (loop._REPORTS, 1),
    "effects, to the engine": (loop._EFFECTS, 2),
    "questions, to the engine": (calls._ANSWERS, 1),
}


@pytest.mark.parametrize("name", TABLES)
def test_each_kind_has_one_row(name: str) -> None:
    """And nothing else has: a row of a kind that is gone is never reached."""
    table, known = TABLES[name]
    assert len(known) > 1
    assert set(table) == known


@pytest.mark.parametrize("name", METHODS)
def test_each_handler_takes_what_it_is_given(name: str) -> None:
    """A row that names another kind's handler would fail only once the event comes."""
    table, place = METHODS[name]
    wrong = {kind: handler for kind, handler in table.items() if kind not in _taken(handler, place)}
    assert not wrong


def test_no_value_is_of_two_vocabularies() -> None:
    """What is an event is no effect, and neither is a report: nobody has to guess who is to handle it."""
    of = [kinds(ev.Event), kinds(ev.Effect), kinds(co.Own), kinds(ev.Report) | OWN, kinds(ev.Step)]
    assert sum(map(len, of)) == len(set().union(*of))


def test_each_question_has_its_answer() -> None:
    """What the RPC contract offers, what is served, and what the engine answers are the same."""
    offered, served = (
        {name for name, _ in inspect.getmembers(one, inspect.isfunction) if not name.startswith("_")}
        for one in (WorkerAPI, Endpoint)
    )
    methods = [kind.method for kind in kinds(questions.Asked)]
    assert offered == served == set(methods)
    assert len(methods) == len(set(methods))


def test_each_answer_is_of_its_questions_kind() -> None:
    """What a question promises its caller is what the method that answers it returns."""
    for kind, answer in calls._ANSWERS.items():
        (promised,) = typing.get_args(kind.__orig_bases__[0])
        assert typing.get_type_hints(answer)["return"] == promised, kind


def _taken(handler: Callable[..., Any], place: int) -> tuple[Any, ...]:
    name = list(inspect.signature(handler).parameters)[place]
    hint = typing.get_type_hints(handler)[name]
    return typing.get_args(hint) or (hint,)
