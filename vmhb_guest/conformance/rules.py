"""The rules: one function for each, in the order in which they are tried.

A rule returns what was wrong, or "" where nothing was. It never waits a fixed time for something not to happen: it asks
one challenge more, and since agents answer in order, what has not come before that answer does not come.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable

from vmhb_guest.codec import MAX_LINE
from vmhb_guest.conformance import schema
from vmhb_guest.conformance.host import Asked, Heard, Host, Silent, answers

#: As many as a host ever has unanswered.
WINDOW = 64
#: Lines that an agent may say unasked between two answers: a hello, a farewell, an error or two.
UNASKED = 16


@dataclasses.dataclass(frozen=True)
class Rule:
    """One requirement. try_: see above."""

    name: str
    says: str
    try_: Callable[[Trial], str]


@dataclasses.dataclass
class Trial:
    """What rules are given: the host to play; how long an answer may take, and how long is listened to silence (s)."""

    host: Host
    timeout: float = 10.0
    quiet: float = 1.0


RULES: list[Rule] = []


def rule(name: str, says: str) -> Callable[[Callable[[Trial], str]], Callable[[Trial], str]]:
    """A row of the table."""

    def add(function: Callable[[Trial], str]) -> Callable[[Trial], str]:
        RULES.append(Rule(name, says, function))
        return function

    return add


# -- acknowledgements


@rule("echo-nonce", "An ack has the challenge's nonce, character for character.")
def echo_nonce(trial: Trial) -> str:
    for nonce in ("aB3-_=+/.:~", "0", "Zz" * 32):
        asked = trial.host.challenge(nonce=nonce)
        got = _ack(trial, asked).get("nonce")
        if got != nonce:
            return f"asked with {nonce!r}, acknowledged {got!r}"
    return ""


@rule("echo-seq", "An ack has the challenge's seq, up to 2^53 - 1.")
def echo_seq(trial: Trial) -> str:
    for seq in (0, 7, 2**53 - 1):
        got = _ack(trial, trial.host.challenge(seq=seq)).get("seq")
        if got != seq or isinstance(got, (bool, float)):
            return f"asked with {seq}, acknowledged {got!r}"
    return ""


@rule("each-once", "Each challenge is acknowledged once, also when as many as there can be come at once.")
def each_once(trial: Trial) -> str:
    asked = [trial.host.challenge() for _ in range(WINDOW)]
    heard = trial.host.ask(b"".join(one.line for one in asked))
    counts = [sum(answers(one, challenge) for one in heard) for challenge in asked]
    if max(counts) > 1:
        return f"one was acknowledged {max(counts)} times"
    # Of a burst only the newest must be: the older ones' time may be over. But then none of those after it is left out.
    return "" if counts[-1] == 1 else "the newest of a burst was not acknowledged"


@rule("coalesced", "Of two messages that arrive together, neither is lost.")
def coalesced(trial: Trial) -> str:
    first, second = trial.host.challenge(), trial.host.challenge()
    heard = trial.host.ask(first.line + second.line)
    missing = [name for name, one in (("first", first), ("second", second)) if not _has_ack(heard, one)]
    return f"the {missing[0]} was" if missing else ""


@rule("split", "A message that arrives in pieces is one message.")
def split(trial: Trial) -> str:
    for part in range(1, 9):
        asked = trial.host.challenge()
        cut = len(asked.line) * part // 9
        trial.host.say(asked.line[:cut])
        time.sleep(0.02)  # so that the agent reads the pieces apart; nothing is judged by it
        if not _has_ack(trial.host.ask(asked.line[cut:]), asked):
            return f"cut after {cut} bytes, it was not acknowledged"
    return ""


# -- what is not as it should be


@rule("unknown-type", "A type that is not known is answered with an error, and what follows it is read.")
def unknown_type(trial: Trial) -> str:
    codes: list[object] = []
    for _ in range(5):  # an agent may limit how many errors it says, to one a second say
        heard = trial.host.ask(b'{"type":"vmhb_conformance","seq":1}\n')
        codes = [one.message.get("code") for one in heard if _is(one, "error")]
        if codes:
            break
        trial.host.watch(trial.quiet)
    return "" if "unknown_type" in codes else f"errors said: {codes or 'none'}; expected unknown_type"


@rule("empty-lines", "Empty lines are ignored.")
def empty_lines(trial: Trial) -> str:
    heard = trial.host.ask(b"\n" * 500)
    return "they were answered" if any(_is(one, "error") for one in heard) else ""


@rule("too-long", f"A line of more than {MAX_LINE} bytes is dropped whole, and what follows it is read.")
def too_long(trial: Trial) -> str:
    hidden = [trial.host.challenge() for _ in range(3)]
    paddings = (MAX_LINE, 2 * MAX_LINE, 65536)
    for padding, one in zip(paddings, hidden):  # noqa: B905 -- Python 3.8
        if _has_ack(trial.host.ask(b"x" * padding + one.line), one):
            return "the end of it was taken for a message"
    long_but_json = trial.host.challenge()
    line = json.dumps({**json.loads(long_but_json.line), "padding": "x" * MAX_LINE}).encode() + b"\n"
    return "it was taken for a message" if _has_ack(trial.host.ask(line), long_but_json) else ""


@rule("not-json", "A line that is not JSON is dropped, and what follows it is read.")
def not_json(trial: Trial) -> str:
    rows = (b"{", b"}", b"nonsense", b"\xff\xfe\x00\x01", b"[" * 2000, b'{"type":"challenge"', b"9" * 4000, b"\x00")
    trial.host.ask(b"\n".join((*rows, b"null", b"[]", b'"challenge"', b"")))
    return ""


@rule("bad-challenge", "A challenge without its nonce, or with something else in its place, is not acknowledged.")
def bad_challenge(trial: Trial) -> str:
    seqs = [trial.host.challenge().seq for _ in range(4)]
    fields: tuple[dict[str, object], ...] = ({}, {"nonce": 5}, {"nonce": ""}, {"nonce": None})
    rows = [{"type": "challenge", "seq": seq, **more} for seq, more in zip(seqs, fields)]  # noqa: B905 -- Python 3.8
    heard = trial.host.ask(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    taken = [one for one in heard for seq in seqs if answers(one, Asked(seq, "\0", False))]
    return "one was acknowledged" if taken else ""


@rule("unknown-keys", "Keys that are not known are ignored.")
def unknown_keys(trial: Trial) -> str:
    asked = trial.host.challenge()
    row = {**json.loads(asked.line), "from": "a later version", "more": {"type": "goodbye", "list": [1, None, 1e300]}}
    heard = trial.host.ask(json.dumps(row).encode() + b"\n")
    return "" if _has_ack(heard, asked) else "the challenge that had them was not acknowledged"


@rule("no-echo-of-errors", "An error, a welcome and a notice are not answered.")
def no_echo_of_errors(trial: Trial) -> str:
    rows = (
        {"type": "error", "code": "refused", "detail": "by the conformance kit"},
        {"type": "error", "code": "a code of a later version"},
        {"type": "welcome", "version": 1, "interval": 10, "timeout": 5.0},
        {"type": "notice", "event": "conformance", "deadline": None},
    )
    heard = trial.host.ask(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    return "one was answered with an error" if any(_is(one, "error") for one in heard) else ""


# -- health


@rule("health", "Asked for health, an ack has it, with words that the protocol knows.")
def health(trial: Trial) -> str:
    message = _ack(trial, trial.host.challenge(health=True))
    if "health" not in message:
        return "the ack had none"
    return "; ".join(schema.faults(message["health"], "health"))


@rule("no-waiting-for-checks", "An answer does not wait for a health check. (Have one that hangs, to try this.)")
def no_waiting_for_checks(trial: Trial) -> str:
    for number in range(5):
        asked = trial.host.challenge(health=True)
        trial.host.say(asked.line)
        try:
            trial.host.hear_until(asked, trial.timeout)
        except Silent as silent:
            if trial.host.here:
                return f"question {number + 1} was not answered within {trial.timeout:g} s"
            raise silent
    return ""


# -- the connection


@rule("half-line", "Half a line of the host's earlier life swallows nothing.")
def half_line(trial: Trial) -> str:
    trial.host.ask()
    trial.host.say(b'{"type":"challenge","seq":1,"non')
    _return(trial)
    asked = trial.host.challenge()
    return "" if _has_ack(trial.host.ask(asked.line), asked) else "the first challenge after it was not acknowledged"


@rule("nothing-stale", "What was acknowledged before is not acknowledged again when the host comes back.")
def nothing_stale(trial: Trial) -> str:
    asked = [trial.host.challenge() for _ in range(3)]
    trial.host.ask(b"".join(one.line for one in asked))
    before = len(trial.host.heard)
    _return(trial)
    trial.host.ask()
    late = trial.host.heard[before:]
    return "an ack was repeated" if any(_has_ack(late, one) for one in asked) else ""


@rule("host-returns", "The host may go and come back, again and again.")
def host_returns(trial: Trial) -> str:
    for _ in range(4):
        _return(trial)
        trial.host.ask()
    return ""


# -- all that was heard


@rule("first-newline", "The first byte after connecting is a newline.")
def first_newline(trial: Trial) -> str:
    others = [first for first in trial.host.first_bytes.values() if first != b"\n"]
    return f"it was {others[0]!r}" if others else ""


@rule("hello", "A hello is optional, once a connection, and has a version.")
def hello(trial: Trial) -> str:
    found = [fault for message in trial.host.said("hello") for fault in schema.faults(message, "hello")]
    if found:
        return found[0]
    connections = [one.connection for one in trial.host.heard if _is(one, "hello")]
    # One connection more than we know of may be hidden in it: nobody tells an agent's port that we came and went.
    return "" if len(connections) == len(set(connections)) else "it came twice on a connection"


@rule("legal", "Everything that is said is a message of the protocol.")
def legal(trial: Trial) -> str:
    for one in trial.host.heard:
        if not isinstance(one.message, dict):
            return "a line was not a JSON object in UTF-8"
        kind = str(one.message.get("type"))
        if kind not in ("ack", "maintenance", "goodbye", "error", "hello"):
            return f"there is no type {kind[:40]!r} from a guest"
        # Its health and its hello have rules of their own.
        message = {key: value for key, value in one.message.items() if key != "health"}
        found = [] if kind == "hello" else schema.faults(message, kind)
        if found:
            return found[0]
    return ""


@rule("line-length", f"No line is longer than {MAX_LINE} bytes, its newline included.")
def line_length(trial: Trial) -> str:
    longest = max((one.size for one in trial.host.heard), default=0)
    return f"one had {longest}" if longest > MAX_LINE else ""


@rule("quiet", f"Between two answers an agent says {UNASKED} lines at most.")
def quiet(trial: Trial) -> str:
    said = max(len(trial.host.ask()), len(trial.host.ask()), trial.host.watch(trial.quiet))
    return f"it said {said}" if said > UNASKED else ""


# -- what several of them do


def _return(trial: Trial) -> None:
    trial.host.leave()
    trial.host.arrive()


def _ack(trial: Trial, asked: Asked) -> dict[str, object]:
    """The ack of this challenge."""
    trial.host.say(asked.line)
    return dict(trial.host.hear_until(asked)[-1].message)


def _has_ack(heard: list[Heard], asked: Asked) -> bool:
    return any(answers(one, asked) for one in heard)


def _is(heard: Heard, kind: str) -> bool:
    return isinstance(heard.message, dict) and heard.message.get("type") == kind
