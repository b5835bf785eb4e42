"""Every loop that serves many takes a fault of one as that one's. The table of them is total: a thread, pool or
endpoint that is new has no row yet, and a test fails until somebody has thought of it."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import vmhb_common
import vmhb_consumer
from tests.unit.consumer.conftest import Desk
from tests.unit.consumer.fakes import FailingHalf, SlowHalf, Witness
from vmhb_consumer.counters import Tally
from vmhb_consumer.database import Away
from vmhb_consumer.housekeeper import Ask, Rounds
from vmhb_consumer.service import Consumer
from vmhb_consumer.settings import FaultSettings

ROOT = Path(vmhb_consumer.__file__).parent.parent
TESTS = Path(__file__).parent.parent

OF_OURS = "consumer/test_nova_listener.py test_a_mistake_of_ours_does_not_come_back_for_ever"
#: What is done where -> the test that has one of many fail there; or, in brackets, why it serves nobody but itself.
LOOPS = {
    "vmhb_common/app/command_line.py _answer": "(one question of --check-config each)",
    "vmhb_common/app/ending.py Errand._run": "common/test_ending.py test_an_errand_that_hangs_or_fails",
    "vmhb_common/app/ending.py Ending._run": "common/test_ending.py test_an_errand_that_hangs_or_fails",
    "vmhb_common/app/ending.py Ending._say": "common/test_ending.py test_a_log_that_hangs",
    "vmhb_common/messaging/broker.py _check": "(one look at one broker)",
    "vmhb_common/messaging/broker.py Background._run": "common/test_broker.py test_what_does_not_begin_is_said",
    "vmhb_common/messaging/broker.py Background._watch": "(says one line)",
    "vmhb_common/messaging/broker.py _end": "common/test_broker.py test_none_is_held_up_by_anothers_end",
    "vmhb_common/messaging/limited.py Limited._run": "common/test_limited.py test_what_does_not_end",
    "vmhb_common/messaging/publisher.py _clean_up": "(one connection that is spoilt)",
    "vmhb_consumer/delivery.py Delivery._run": "consumer/test_rows.py test_any_value_in_any_column",
    "vmhb_consumer/fault_listener.py Endpoint.info": "consumer/test_door.py test_anything_at_all",
    "vmhb_consumer/faults_half.py Faults._begin": "(the start: whatever it meets is tried again, or refused)",
    "vmhb_consumer/faults_half.py Faults._leave": "(the end)",
    "vmhb_consumer/faults_half.py Faults._say_reading": "(says how we are)",
    "vmhb_consumer/faults_half.py Faults._check_topics": "(says what is wrong with a broker, once)",
    "vmhb_consumer/housekeeper.py ThreadPoolExecutor": "consumer/test_loops.py test_a_step_that_fails_is_one_step",
    "vmhb_consumer/housekeeper.py Rounds._run": "consumer/test_loops.py test_a_step_that_fails_is_one_step",
    "vmhb_consumer/housekeeper.py Rounds._live": "(says that we live; what fails is tried again)",
    "vmhb_consumer/housekeeper.py Rounds._look": "(looks at one row; what fails is tried again)",
    "vmhb_consumer/known_hosts.py work": "consumer/test_senders.py test_a_reading_that_fails_is_one_reading",
    "vmhb_consumer/nova_listener.py Endpoint.info": OF_OURS,
    "vmhb_consumer/nova_listener.py Endpoint.error": OF_OURS,
    "vmhb_consumer/nova_listener.py Instances._say": "(says how we are)",
    "vmhb_consumer/questions.py Questions._run": "consumer/test_questions.py test_a_question_that_fails",
    "vmhb_consumer/rpc_server.py Endpoint.about": "consumer/test_door.py test_a_row_that_cannot_be_read",
    "vmhb_consumer/rpc_server.py Endpoint.active_faults": "consumer/test_door.py test_a_row_that_cannot_be_read",
    "vmhb_consumer/reporters/http.py _cut": "(cuts one connection)",
    "vmhb_consumer/reporters/testing.py serve_forever": "(for tests)",
    "vmhb_consumer/service.py Consumer._say_ready": "(says that we are ready)",
    "vmhb_consumer/service.py Consumer.read_again": "consumer/test_loops.py test_a_half_that_cannot_read_again",
    "vmhb_consumer/service.py _end": "consumer/test_service.py test_a_half_that_fails_at_its_end",
}
#: What is no thread of its own, and serves many all the same.
BESIDES = {"vmhb_consumer/service.py Consumer.read_again"}


def loops() -> set[str]:
    """Every thread, timer and pool that is made, and all that libraries call for each message."""
    found = set()
    for package in (vmhb_common, vmhb_consumer):
        for path in sorted(Path(package.__path__[0]).rglob("*.py")):
            where = str(path.relative_to(ROOT))
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found |= {f"{where} {name}" for name in _within(tree, "")}
    return found


def _within(node: ast.AST, holder: str) -> set[str]:
    found = set()
    for child in ast.iter_child_nodes(node):
        here = child.name if isinstance(child, ast.ClassDef) else holder
        if isinstance(child, ast.ClassDef) and child.name == "Endpoint":
            methods = [one.name for one in child.body if isinstance(one, ast.FunctionDef)]
            called = [name for name in methods if not name.startswith("_") and name != "stop"]
            found |= {f"Endpoint.{name}" for name in called}
        if isinstance(child, ast.Call):
            found |= _made(child, here)
        found |= _within(child, here)
    return found


def _made(call: ast.Call, holder: str) -> set[str]:
    kind = ast.unparse(call.func)
    if kind == "ThreadPoolExecutor":
        return {kind}
    if kind not in ("threading.Thread", "threading.Timer"):
        return set()
    given = [word.value for word in call.keywords if word.arg == "target"] or call.args[1:2]
    target = given[0]
    if isinstance(target, ast.Lambda):
        return {"_check"}
    name = ast.unparse(target)
    if name.startswith("self.") and name.count(".") == 1:
        return {f"{holder}.{name.removeprefix('self.')}"}
    return {name.rpartition(".")[2]}


def test_every_loop_is_in_the_table() -> None:
    """And each in the table is one."""
    assert loops() | BESIDES == set(LOOPS)


def test_each_has_its_test() -> None:
    """Under the name that the table says."""
    for said in LOOPS.values():
        if not said.startswith("("):
            path, name = said.split()
            assert f"def {name}(" in (TESTS / path).read_text(encoding="utf-8"), said


def rounds(desk: Desk, tally: Tally) -> Rounds:
    witness = Witness(alive=False)
    ask = Ask(witness.word, witness.place, witness.answers)
    return Rounds(FaultSettings(host="here"), desk.records, desk.outbox, ask, tally, lambda: None, desk.clock)


def _noted(done: list[str], name: str, real: Callable[..., Any], *arguments: Any) -> Any:
    done.append(name)
    return real(*arguments)


@pytest.mark.parametrize("step", ["put_right", "prune", "counts", "set_aside", "doubtful", "silent"])
def test_a_step_that_fails_is_one_step(desk: Desk, step: str, caplog: pytest.LogCaptureFixture) -> None:
    """Of a round: the others are done, it is counted and said, a few times; and a database that is away ends it."""

    def fails(*_arguments: object) -> None:
        raise RuntimeError("a bug")

    done: list[str] = []
    for name in ("put_right", "prune", "counts", "set_aside", "doubtful", "silent"):
        real = getattr(desk.records, name)
        noted = partial(_noted, done, name, real)
        setattr(desk.records, name, fails if name == step else noted)
    tally = Tally()
    one = rounds(desk, tally)
    for _ in range(50):
        desk.clock.now += 400.0
        one.round()
    assert set(done) == {"put_right", "prune", "counts", "set_aside", "doubtful", "silent"} - {step}
    assert tally.snapshot()["rounds.failed"] == 50
    said = [record.getMessage() for record in caplog.records if "of our own" in record.getMessage()]
    assert 1 <= len(said) <= 11

    def away(*_arguments: object) -> None:
        raise Away("no route")

    setattr(desk.records, step, away)
    desk.clock.now += 400.0
    with pytest.raises(Away):
        one.round()
    one.stop()


class StubbornHalf(FailingHalf):
    """One that can't read its configuration again."""

    def read_again(self) -> None:
        raise RuntimeError("it can't")


class ReadingHalf(SlowHalf):
    """One that can."""

    read = False

    def read_again(self) -> None:
        self.read = True


def test_a_half_that_cannot_read_again() -> None:
    """Keeps the other from it no more than from ending."""
    other = ReadingHalf(0.0)
    Consumer([StubbornHalf(), other]).read_again()
    assert other.read
