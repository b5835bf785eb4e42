"""The kit finds what is broken, and only that; what keeps to the protocol passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.guest import agents
from vmhb_guest.conformance.cmd import FAILED, NOT_TRIED, PASSED, Result, examine, main
from vmhb_guest.conformance.host import Host
from vmhb_guest.conformance.rules import RULES, Trial

#: Seconds to wait for what does happen, on however busy a machine.
PATIENCE = 60.0


def outcome(path: Path, agent: agents.Agent, timeout: float = PATIENCE) -> dict[str, Result]:
    """Try this agent."""
    host = Host(str(path), listen=True, patience=PATIENCE)
    try:
        with agent:
            return {one.rule.name: one for one in examine(Trial(host, timeout, quiet=0.05))}
    finally:
        host.close()


def test_a_sound_agent_passes(tmp_path: Path) -> None:
    """Every rule, by the smallest agent that there is."""
    results = outcome(tmp_path / "port", agents.Agent(tmp_path / "port"))
    assert {name: (one.outcome, one.detail) for name, one in results.items() if one.outcome != PASSED} == {}
    assert len(results) == len(RULES) >= 10


def test_each_rule_has_one_who_breaks_it() -> None:
    """A rule that nobody can break says nothing."""
    assert [one.name for one in RULES] != [] and {one.name for one in RULES} == set(agents.BROKEN)


@pytest.mark.parametrize("rule", agents.BROKEN)
def test_a_broken_agent_fails_its_rule(rule: str, tmp_path: Path) -> None:
    """That one, for a reason that is said, and no other."""
    timeout = agents.SHORT if rule == "no-waiting-for-checks" else PATIENCE
    results = outcome(tmp_path / "port", agents.BROKEN[rule](tmp_path / "port"), timeout)
    assert [(name, one.detail) for name, one in results.items() if one.outcome != PASSED] == [
        (rule, results[rule].detail)
    ]
    assert results[rule].outcome == FAILED and results[rule].detail


def test_nobody_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No agent, no result: exit code 2, and nothing is called passed."""
    assert main([str(tmp_path / "port"), "--listen", "--patience", "0.1"]) == 2
    said = capsys.readouterr().out
    assert said.count(NOT_TRIED) == len(RULES) + 1 and "0 passed, 0 failed" in said


def test_the_program_says_it_rule_by_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a person reads it; exit code 1 for a failed rule, and the reason beneath it."""
    path = tmp_path / "port"
    with agents.HealthOk(path):
        assert main([str(path), "--listen"]) == 1
    said = capsys.readouterr().out
    assert "FAIL      health" in said and "health.status is none of healthy, degraded, unhealthy" in said
    assert f"{len(RULES) - 1} passed, 1 failed, 0 not tried" in said
