"""Who says so: signatures that are over all that is acted on, keys in files, and what may be said by whom."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.unit.common.keyring import Looks, a_pair
from vmhb_common.messaging import sender_keys, signing
from vmhb_common.messaging.sender_keys import BadKey, Own, Trusted
from vmhb_common.messaging.signing import ANSWER, CAST, NOTIFICATION
from vmhb_common.model.senders import (
    ANOTHERS,
    UNSIGNED,
    Forged,
    Heard,
    NotHeard,
    Role,
    SenderCheck,
    SenderSettings,
    Signature,
    Signed,
    Unsigned,
    judge,
    name_of,
)

SENT = {
    "publisher_id": "vmhb-worker:cn1",
    "event_type": "vmhb.fault.raised",
    "payload": {"host": "cn1", "interval": 0.1, "name": "\u00fc\ud800", "evidence": {"b": [1, None, True], "a": 1e300}},
    "message_id": "m1",
    "timestamp": "2026-01-02 12:00:00",
}
KEY, PUBLIC = a_pair()
KEYS = {"worker:cn1": [PUBLIC]}
SEAL = KEY.sign("worker:cn1", NOTIFICATION, SENT, at=1000.0)


def check(seal: Any, sent: Any = SENT, kind: str = NOTIFICATION) -> Signature:
    """By what we hold."""
    return signing.check(seal, kind, sent, KEYS)


def test_signed() -> None:
    """It survives the way over the broker; any of a sender's keys will do."""
    assert check(SEAL, json.loads(json.dumps(SENT))) == Signed("worker:cn1", 1000.0)
    both = {"worker:cn1": [a_pair()[1], PUBLIC]}
    assert signing.check(SEAL, NOTIFICATION, SENT, both) == Signed("worker:cn1", 1000.0)
    assert check(None) == Unsigned()


@pytest.mark.parametrize("name", SENT)
def test_all_that_is_acted_on_is_signed(name: str) -> None:
    """Whatever is changed on the way, it is not what was signed; nor is the same as another kind of message."""
    assert check(SEAL, {**SENT, name: "another"}) == Forged("signed wrongly")
    assert check(SEAL, {**SENT, "payload": {**SENT["payload"], "host": "cn2"}}) == Forged("signed wrongly")  # type: ignore[dict-item]
    assert check(SEAL, kind=CAST) == Forged("signed wrongly")


@pytest.mark.parametrize(
    ("seal", "why"),
    [
        (SEAL.replace("cn1", "cn2"), "signed with a key that is not trusted"),
        (SEAL.replace("1000.0", "2000.0"), "signed wrongly"),
        (SEAL.replace("1000.000", "nan"), "signed wrongly"),
        (SEAL.replace("1000.000", "-1"), "signed wrongly"),
        (SEAL.replace("1000.000", "1e300"), "signed wrongly"),
        (SEAL[:-8], "signed wrongly"),
        (SEAL[:-1] + "!", "signed wrongly"),
        (SEAL[:-1] + "\ud800", "signed wrongly"),
        (SEAL.replace("1 ", "2 ", 1), "signed in a form that is not known here"),
        (SEAL + " more", "signed in a form that is not known here"),
        ("", "signed in a form that is not known here"),
        ("x" * 10_000, "signed in a form that is not known here"),
        (7, "signed in a form that is not known here"),
        ({"a": 1}, "signed in a form that is not known here"),
        ([], "signed in a form that is not known here"),
    ],
)
def test_what_proves_nothing(seal: Any, why: str) -> None:
    """Said in a few texts, whatever came: and nothing is raised."""
    assert check(seal) == Forged(why)


def test_what_cannot_be_written_down() -> None:
    """Nobody signs that."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for sent in ({"a": deep}, {"a": object()}):
        assert check(SEAL, sent) == Forged("signed wrongly")


def test_an_answer_is_to_one_call() -> None:
    """What was answered before, or to another, or by another host, is not taken for it."""
    said = signing.answer("cn1", "show", {"instance_uuid": "i"}, "n1", {"state": "silent"})
    seal = KEY.sign("worker:cn1", ANSWER, said)
    assert isinstance(check(seal, said, ANSWER), Signed)
    for other in (
        signing.answer("cn1", "show", {"instance_uuid": "i"}, "n2", {"state": "silent"}),
        signing.answer("cn1", "show", {"instance_uuid": "j"}, "n1", {"state": "silent"}),
        signing.answer("cn2", "show", {"instance_uuid": "i"}, "n1", {"state": "silent"}),
        signing.answer("cn1", "show", {"instance_uuid": "i"}, "n1", {"state": "alive"}),
    ):
        assert isinstance(check(seal, other, ANSWER), Forged)


# -- who may say it ----------------------------------------------------------------------------------------------------

OURS, OTHERS = Signed("worker:cn1", 0.0), Signed("worker:cn2", 0.0)


@pytest.mark.parametrize(
    ("check", "signature", "decision"),
    [
        *((SenderCheck.OFF, signature, Heard()) for signature in (OURS, OTHERS, Unsigned(), Forged("signed wrongly"))),
        *((check, OURS, Heard()) for check in (SenderCheck.WARN, SenderCheck.ENFORCE)),
        *((check, OTHERS, NotHeard(ANOTHERS)) for check in (SenderCheck.WARN, SenderCheck.ENFORCE)),
        *(
            (check, Signed("consumer:cn1", 0.0), NotHeard(ANOTHERS))
            for check in (SenderCheck.WARN, SenderCheck.ENFORCE)
        ),
        (SenderCheck.WARN, Unsigned(), Heard(UNSIGNED)),
        (SenderCheck.WARN, Forged("signed wrongly"), Heard("signed wrongly")),
        (SenderCheck.ENFORCE, Unsigned(), NotHeard(UNSIGNED)),
        (SenderCheck.ENFORCE, Forged("signed wrongly"), NotHeard("signed wrongly")),
    ],
)
def test_who_may_say_what(check: SenderCheck, signature: Signature, decision: object) -> None:
    """What a node says concerns itself. While not all have keys, what is not signed is heard, and said of."""
    assert judge(check, signature, Role.WORKER, "cn1") == decision


@pytest.mark.parametrize(("check", "role"), [*product((SenderCheck.WARN, SenderCheck.ENFORCE), Role)])
def test_what_any_of_a_role_may_say(check: SenderCheck, role: Role) -> None:
    """Any consumer tells workers; no worker does."""
    decision = judge(check, Signed(name_of(role, "x"), 0.0), Role.CONSUMER, None)
    assert isinstance(decision, Heard) is (role is Role.CONSUMER)


# -- keys in files -----------------------------------------------------------------------------------------------------


def moved(path: Path) -> None:
    """A file whose time tells that it is another."""
    now = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(now, now))


def test_ones_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a key nothing is signed; one that comes, or is replaced, is used without a restart."""
    caplog.set_level(logging.INFO)
    clock = Looks()
    own = Own(tmp_path / "own.key", "worker:cn1", clock)
    assert own.sign(NOTIFICATION, SENT) is None
    first = sender_keys.write_own(tmp_path / "own.key").public
    assert own.sign(NOTIFICATION, SENT) is None, "it is looked now and then"
    clock.passes()
    assert isinstance(signing.check(own.sign(NOTIFICATION, SENT), NOTIFICATION, SENT, {"worker:cn1": [first]}), Signed)
    second = sender_keys.write_own(tmp_path / "new.key").public
    os.replace(tmp_path / "new.key", tmp_path / "own.key")
    clock.passes()
    assert isinstance(signing.check(own.sign(NOTIFICATION, SENT), NOTIFICATION, SENT, {"worker:cn1": [second]}), Signed)
    (tmp_path / "own.key").chmod(0o640)
    clock.passes()
    assert own.sign(NOTIFICATION, SENT) is None
    (tmp_path / "own.key").write_text("nonsense")
    (tmp_path / "own.key").chmod(0o600)
    moved(tmp_path / "own.key")
    clock.passes()
    assert own.sign(NOTIFICATION, SENT) is own.sign(NOTIFICATION, SENT) is None
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 5
    assert "vmhb-keys make" in said[0] and "chmod 600" in said[3] and "is not a private key" in said[4]


def test_who_is_trusted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Lines of a file: several of a name are several keys; a bad one counts for nothing, and the others do."""
    clock, file = Looks(), tmp_path / "senders"
    trusted = Trusted(file, clock)
    assert trusted.check(SEAL, NOTIFICATION, SENT) == Forged("signed with a key that is not trusted")
    assert not trusted.anybody
    lines = ["# ours", "", "nonsense", "worker:cn2 x", sender_keys.line_of("worker:cn1", a_pair()[1])]
    sender_keys.write_lines(file, [*lines, sender_keys.line_of("worker:cn1", PUBLIC)])
    clock.passes()
    assert trusted.check(SEAL, NOTIFICATION, SENT) == Signed("worker:cn1", 1000.0)
    assert trusted.anybody
    assert [
        record.getMessage().partition(", line ")[2][:2] for record in caplog.records if record.levelname == "ERROR"
    ] == [*("3:", "4:")]


def test_a_file_that_everybody_may_write(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody in it is trusted."""
    file = tmp_path / "senders"
    sender_keys.write_lines(file, [sender_keys.line_of("worker:cn1", PUBLIC)])
    file.chmod(0o666)
    assert isinstance(Trusted(file).check(SEAL, NOTIFICATION, SENT), Forged)
    assert "chmod 644" in caplog.text


def test_revoked(tmp_path: Path) -> None:
    """A line that is gone is trusted no more; a file that can't be read revokes nobody."""
    clock, folder = Looks(), tmp_path / "senders"
    folder.mkdir()
    (folder / "a.keys").write_text(sender_keys.line_of("worker:cn1", PUBLIC))
    (folder / "b.txt").write_text("not one of ours")
    trusted = Trusted(folder, clock)
    assert isinstance(trusted.check(SEAL, NOTIFICATION, SENT), Signed)
    (folder / "b.keys").mkdir()
    clock.passes()
    assert isinstance(trusted.check(SEAL, NOTIFICATION, SENT), Signed)
    (folder / "b.keys").rmdir()
    (folder / "a.keys").unlink()
    clock.passes()
    assert trusted.check(SEAL, NOTIFICATION, SENT) == Forged("signed with a key that is not trusted")


def test_a_host_without_cryptography(tmp_path: Path, lacking: Callable[[], None]) -> None:
    """It signs nothing and believes no signature, and says what to install; nothing is raised."""
    sender_keys.write_own(tmp_path / "own.key")
    (tmp_path / "senders").write_text(sender_keys.line_of("worker:cn1", PUBLIC))
    lacking()
    assert Own(tmp_path / "own.key", "worker:cn1").sign(NOTIFICATION, SENT) is None
    said = Trusted(tmp_path / "senders").check(SEAL, NOTIFICATION, SENT)
    assert isinstance(said, Forged) and "install cryptography" in said.why
    settings = SenderSettings(tmp_path / "own.key", SenderCheck.ENFORCE, tmp_path / "senders")
    assert [option for option, _value, _remedy in sender_keys.problems(settings)] == ["sender_key", "sender_check"]


@pytest.mark.parametrize(
    ("check", "own", "trusted", "says"),
    [
        ("warn", None, None, []),
        ("enforce", None, None, ["senders nobody is trusted"]),
        ("enforce", "good", "good", []),
        ("off", "open", "bad", ["sender_key ", "senders "]),
        ("enforce", "bad", "folder", ["sender_key ", "senders nobody is trusted"]),
    ],
)
def test_what_is_wrong_with_the_files(
    tmp_path: Path, check: str, own: str | None, trusted: str | None, says: list[str]
) -> None:
    """For --check-config, before a start: a line for each."""
    settings = SenderSettings(tmp_path / "own.key", SenderCheck(check), tmp_path / "senders")
    if own is not None:
        sender_keys.write_own(settings.key)
        settings.key.chmod(0o644 if own == "open" else 0o600)
    if own == "bad":
        settings.key.write_text("nonsense")
    if trusted == "folder":
        settings.trusted.mkdir()
    elif trusted is not None:
        settings.trusted.write_text(sender_keys.line_of("worker:cn1", PUBLIC) if trusted == "good" else "bad")
    found = [f"{option} {remedy}" for option, _value, remedy in sender_keys.problems(settings)]
    assert len(found) == len(says) and all(one.startswith(said) for one, said in zip(found, says, strict=True))


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Called, the library is not there any more."""

    def gone() -> None:
        raise signing.NoCryptography("No module named 'cryptography': install cryptography")

    return lambda: monkeypatch.setattr(signing, "_ed25519", gone)


@pytest.mark.parametrize(
    "line", ["", "worker:cn1", "cn1 " + "A" * 44, "worker: A", f"guest:x {'A' * 44}", "worker:cn1 AAAA"]
)
def test_a_bad_line(line: str) -> None:
    """Refused with a sentence."""
    with pytest.raises(BadKey):
        sender_keys.read_line(line)


def test_a_key_is_never_written_over(tmp_path: Path) -> None:
    """And nobody else can read it."""
    sender_keys.write_own(tmp_path / "own.key")
    assert (tmp_path / "own.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        sender_keys.write_own(tmp_path / "own.key")
