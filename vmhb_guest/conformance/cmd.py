"""`vmhb-guest-conformance`: try a guest agent."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence

from vmhb_guest import __version__
from vmhb_guest.conformance.host import Host, Silent
from vmhb_guest.conformance.rules import RULES, Rule, Trial

PASSED, FAILED, NOT_TRIED = "ok", "FAIL", "not tried"


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of a rule."""

    rule: Rule
    outcome: str  #: PASSED, FAILED or NOT_TRIED
    detail: str = ""


def examine(trial: Trial, tell: Callable[[Result], None] = lambda result: None) -> list[Result]:
    """Try all rules; what became of each, in their order. `tell` hears of each as it is known."""
    results: list[Result] = []
    dead = ""
    for one in RULES:
        result = Result(one, NOT_TRIED, dead)
        if not dead:
            dead = _revive(trial)
            result = Result(one, NOT_TRIED, dead) if dead else _try(trial, one)
        results.append(result)
        tell(result)
    return results


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 all passed, 1 not all, 2 there was nobody who answered."""
    asked = _parser().parse_args(argv)
    try:
        host = Host(asked.path, listen=asked.listen, patience=asked.patience)
    except OSError as error:
        print(f"{asked.path}: {error.strerror}", file=sys.stderr)
        return 2
    try:
        results = examine(Trial(host, asked.timeout), lambda result: _tell(result, as_json=asked.json))
    finally:
        host.close()
    counts = {outcome: sum(one.outcome == outcome for one in results) for outcome in (PASSED, FAILED, NOT_TRIED)}
    if not asked.json:
        print(f"\n{counts[PASSED]} passed, {counts[FAILED]} failed, {counts[NOT_TRIED]} not tried")
    if not counts[PASSED] and not counts[FAILED]:
        return 2
    return 0 if counts[PASSED] == len(RULES) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vmhb-guest-conformance",
        description="Play the host of nova-vmhb's application channel, protocol 1, against a guest agent.",
        epilog="With a VM: the path of the channel's socket (virsh dumpxml), and no vmhb-worker running. Without: "
        "--listen, and start the agent with that socket for its port.",
    )
    parser.add_argument("path", help="unix socket or character device of the host's end")
    parser.add_argument("--listen", action="store_true", help="make the socket, and wait for the agent to connect")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds to wait for an answer (default: 30)")
    parser.add_argument(
        "--timeout", type=float, default=10.0, help="seconds that an answer may take beside a hung check (default: 10)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object for each rule")
    parser.add_argument("--version", action="version", version=__version__)
    return parser


def _tell(result: Result, *, as_json: bool) -> None:
    row = {"rule": result.rule.name, "says": result.rule.says, "outcome": result.outcome, "detail": result.detail}
    detail = f"\n{'':32}{result.detail}" if result.detail else ""
    text = json.dumps(row) if as_json else f"{result.outcome:<9} {result.rule.name:<21} {result.rule.says}{detail}"
    print(text, flush=True)


def _revive(trial: Trial) -> str:
    """Be connected to an agent that answers, whatever the rule before did to it. What is wrong, if it doesn't."""
    why = ""
    for _ in range(3):  # one that crashed is started again
        try:
            if not trial.host.here:
                trial.host.arrive()
            trial.host.ask()
        except Silent as silent:
            why = f"a plain challenge is not answered: {silent}"
            trial.host.leave()
        else:
            return ""
    return why


def _try(trial: Trial, one: Rule) -> Result:
    try:
        fault = one.try_(trial)
    except Silent as silent:
        trial.host.leave()
        return Result(one, FAILED, str(silent))
    return Result(one, FAILED if fault else PASSED, fault)
