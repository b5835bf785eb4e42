"""`vmhb-keys`: made where it is used, trusted and revoked by lines."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from vmhb_common.cmd.keys import DONE, FAILED, WRONG, run
from vmhb_common.messaging import sender_keys


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    return capsys


def test_a_key_s_whole_life(tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    """Made, trusted beside the old one, the old one revoked, then all of it."""
    own, senders = tmp_path / "worker.key", str(tmp_path / "senders")
    assert run(["make", str(own), "worker:cn1"]) == DONE
    line = said.readouterr().out.strip()
    assert run(["show", str(own), "worker:cn1"]) == DONE and said.readouterr().out.strip() == line
    assert run(["trust", senders, line, line]) == DONE and said.readouterr().out == f"trusted: {line}\n"
    assert run(["make", str(tmp_path / "new.key"), "worker:cn1"]) == DONE
    new = said.readouterr().out.strip()
    assert run(["trust", senders, new]) == DONE and run(["list", senders]) == DONE
    assert sorted(said.readouterr().out.splitlines()[1:]) == sorted([line, new])
    assert run(["revoke", senders, "worker:cn1", line.split()[1]]) == DONE
    assert said.readouterr().out == f"revoked: {line}\n"
    assert run(["revoke", senders, "worker:cn1"]) == DONE
    assert sender_keys.read_trusted(Path(senders)) == ({}, [])


def test_lines_are_typed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a deployment tool collects them; comments of the file stay."""
    run(["make", str(tmp_path / "a"), "worker:cn1"])
    run(["make", str(tmp_path / "b"), "consumer:ctl"])
    senders = tmp_path / "senders"
    senders.write_text("# ours\n")
    lines = [
        sender_keys.line_of(name, sender_keys.read_own(tmp_path / file).public)
        for file, name in (("a", "worker:cn1"), ("b", "consumer:ctl"))
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("# all\n\n" + "\n".join(lines)))
    assert run(["trust", str(senders)]) == DONE
    assert senders.read_text().splitlines() == ["# ours", *lines]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--help"], DONE, ""),
        ([], WRONG, "COMMAND"),
        (["make", "there", "worker:cn1"], FAILED, "there is there already"),
        (["make", "new", "cn1"], FAILED, "say worker:HOST"),
        (["make", "no/folder", "worker:cn1"], FAILED, "No such file"),
        (["show", "there", "worker:cn1"], FAILED, "chmod 600"),
        (["trust", "senders", "nonsense"], FAILED, "no sender's name"),
        (["trust", ".", "worker:cn1 x"], FAILED, "is not a public key"),
        (["revoke", "senders", "worker:cn9"], FAILED, "no such key of worker:cn9"),
        (["revoke", ".", "worker:cn9"], FAILED, "say one of its files"),
        (["list", "nowhere"], FAILED, "No such file"),
        (["list", "there"], FAILED, "line 1"),
    ],
)
def test_what_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    """With one sentence; nothing is changed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").write_text("nonsense\n")
    (tmp_path / "there").chmod(0o644)
    (tmp_path / "senders").write_text("")
    assert run(arguments) == code
    assert says in said.readouterr().err
    assert not (tmp_path / "new").exists() and (tmp_path / "senders").read_text() == ""
