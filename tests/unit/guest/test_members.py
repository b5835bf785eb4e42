"""Who may join: a setting, and two files that an administrator, or a stranger's name, may have put anything into."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.guest.examples import EXAMPLES
from vmhb_guest.members import MUCH, USUAL, Members, Register, find, words

PASSWD = "root:x:0:0::/:/bin/sh\nbilling:x:33:33::/:\nmail:x:34:4711::/:\nbroken\nworse:x:²:3::\n:::::\n"
GROUP = "root:x:0:\nvmhb:x:4711:billing,nobody-here\nother:x:4712:\nbad:x:-1:\nworse:x:١:\n"


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "passwd").write_text(PASSWD)
    (tmp_path / "group").write_text(GROUP)
    return tmp_path


def found(etc: Path, text: str) -> Members:
    members = find(words(text), str(etc))
    return Members(members.users - {os.geteuid()}, members.groups, members.everybody, members.unknown)


@pytest.mark.parametrize(
    ("text", "users", "groups", "unknown"),
    [
        ("", set(), set(), ()),
        ("@vmhb", {33, 34}, {4711}, ()),
        ("billing, 1000 @other", {33, 1000}, {4712}, ()),
        ("@7 @nowhere noone", set(), {7}, ("@nowhere", "noone")),
        ("worse @worse @bad", set(), set(), ("worse", "@worse", "@bad")),
    ],
)
def test_whom_the_words_mean(etc: Path, text: str, users: set[int], groups: set[int], unknown: tuple[str, ...]) -> None:
    """By name or number; a group's users, by either file, are in it before they have logged in anew."""
    assert found(etc, text) == Members(frozenset(users), frozenset(groups), False, unknown)


@pytest.mark.parametrize("text", ["@", "@@x", "-1", "²", "a b/c", "root:x", "\udcff", "a" * 65, " ".join(["x"] * 65)])
def test_what_is_no_setting(text: str) -> None:
    """It is said in one line, not guessed."""
    with pytest.raises(ValueError, match=r"no user|at most"):
        words(text)


def test_who_may() -> None:
    """Root always; others by user, or by any of their groups."""
    members = Members(frozenset({33}), frozenset({4711}))
    assert members.may(0) and members.may(33) and members.may(1000, (7, 4711))
    assert not members.may(1000) and not members.may(1000, (33,)) and not members.may(65534, ())
    assert Members(everybody=True).may(65534) and not Members().may(65534)


def test_files_that_are_not_there_or_change(etc: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Then root alone may; what an administrator adds is noticed."""
    caplog.set_level("INFO")
    nowhere = Register(USUAL, folder="/nowhere")
    nowhere.start()
    nowhere.stop()
    assert nowhere.members.users == {os.geteuid()} and not nowhere.members.groups
    assert caplog.messages == ["there is no @vmhb here, so none of it may join"]
    register = Register(USUAL, folder=str(etc))
    register._look()
    (etc / "group").write_text(GROUP + "more:x:4713:\n")
    os.utime(etc / "group", (1, 1))
    register.asked = ("@more",)
    register._look()
    assert register.members.groups == {4713}


def test_a_process_is_asked_for_its_own_groups() -> None:
    """By the kernel's word; one that has ended has none."""
    register = Register(())
    mine = os.getgroups() or [os.getgid()]
    register.members = Members(groups=frozenset(mine))
    assert register.may(os.getpid(), os.getuid())
    assert register.may(2**22 + 1, 1000, mine[0]) and not register.may(2**22 + 1, 1000)
    assert not register.may(os.getpid(), os.getuid() + 1), "the process that has the number is another user's"


@EXAMPLES
@given(st.text(alphabet=st.sampled_from("root:x0²\n,@\0"), max_size=60), st.text(max_size=20))
def test_whatever_is_in_the_files(tmp_path_factory: pytest.TempPathFactory, text: str, other: str) -> None:
    """Rows that are none are left out; sizes are bounded before they are read."""
    folder = tmp_path_factory.mktemp("etc")
    (folder / "passwd").write_text(text + ("x" * MUCH if not text else ""))
    (folder / "group").write_bytes(other.encode("utf-16"))
    assert find(("root", "@root"), str(folder)).may(0)
