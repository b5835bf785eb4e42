"""One way to say the credentials: once, in [nova] or in a group of their own; and the old one, which works."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from tests.fakes import write_config
from vmhb_common.conf import groups
from vmhb_consumer import conf as options
from vmhb_consumer import nova_client
from vmhb_consumer.faults_half import remarks
from vmhb_consumer.reporters import keystone, loader
from vmhb_consumer.reporters.base import Done, Outcome, Reporter
from vmhb_consumer.reporters.loader import BadReporter, Installed

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=timezone.utc)
#: In whichever group.
CREDENTIALS = (
    "auth_type = password\nauth_url = http://{}:5000/v3\nusername = {}\npassword = s3cret\nproject_name = service\n"
    "user_domain_name = Default\nproject_domain_name = Default\n"
)


class Asking(Reporter):
    """Has a session."""

    name = "asking"
    summary = "For tests"

    @classmethod
    def options(cls) -> list[cfg.Opt]:
        return [*keystone.options()]

    def __init__(self, options: Any, _now: object) -> None:
        self.session: Any = keystone.load(options)
        self.timeout = options["timeout"]  # a group is a mapping, too

    def deliver(self, _case: object) -> Outcome:
        return Done()


THERE = Installed({"asking": Asking}, {})


def read(folder: Path, text: str) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    groups.register(conf, [*options.GROUPS, *options.libraries(), *loader.groups(THERE)])
    conf(write_config(folder, text), default_config_files=[], default_config_dirs=[])
    return conf


def asking(conf: cfg.ConfigOpts) -> Any:
    return loader.make(conf, ["asking"], THERE, lambda: NOON)["asking"]


def who(session: Any) -> tuple[str, str]:
    """Whom it would log in, and where."""
    return session.auth.auth_url, session.auth._username


NOVA = "[nova]\n" + CREDENTIALS.format("k", "vmhb")


def test_said_once(tmp_path: Path) -> None:
    """What Nova is asked with, reporters use as well, within a time of their own."""
    conf = read(tmp_path, f"{NOVA}cafile = /etc/ca.pem\n[reporter_asking]\ntimeout = 7\n")
    one = asking(conf)
    assert who(one.session) == ("http://k:5000/v3", "vmhb")
    assert (one.session.timeout, one.timeout, one.session.verify) == (7.0, 7.0, "/etc/ca.pem")
    nova = nova_client.from_conf(conf)
    assert nova is not None and who(nova._adapter.session) == who(one.session)
    assert list(remarks(conf, ["asking"])) == []


def test_another_user(tmp_path: Path) -> None:
    """In a group of whatever name; [nova] may name one as well."""
    text = f"{NOVA}[reporter_asking]\nauth_section = other\ninsecure = true\n[other]\n{CREDENTIALS.format('o', 'them')}"
    session = asking(read(tmp_path, text)).session
    assert who(session) == ("http://o:5000/v3", "them")
    assert session.verify is False
    secure = text.replace("insecure = true", "insecure = false").replace("[other]", "[other]\ninsecure = true")
    assert asking(read(tmp_path, secure)).session.verify is True
    shared = f"[nova]\nauth_section = other\n[other]\n{CREDENTIALS.format('o', 'them')}"
    nova = nova_client.from_conf(conf := read(tmp_path, shared))
    assert nova is not None and who(nova._adapter.session) == ("http://o:5000/v3", "them")
    assert who(asking(conf).session) == ("http://o:5000/v3", "them")


@pytest.mark.parametrize("before", ["", "auth_type = password\n"])
def test_the_old_way(tmp_path: Path, before: str) -> None:
    """In the reporter's own group, as it was: it wins, and is said to be over some day; its auth_type need not be."""
    own = before + CREDENTIALS.format("old", "masakari").partition("\n")[2]
    conf = read(tmp_path, f"{NOVA}[reporter_asking]\n{own}")
    assert who(asking(conf).session) == ("http://old:5000/v3", "masakari")
    (remark,) = remarks(conf, ["asking"])
    assert remark.startswith("[reporter_asking] has credentials of its own (")
    assert "auth_url" in remark and remark.endswith("in [nova], or in a group of their own that auth_section names")
    assert "s3cret" not in remark


def test_without_keystone(tmp_path: Path) -> None:
    """It is a reporter's own affair to ask a service that does without."""
    conf = read(tmp_path, f"{NOVA}[reporter_asking]\nauth_type = none\n")
    assert not hasattr(asking(conf).session.auth, "auth_url")
    assert list(remarks(conf, ["asking"])) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"\[reporter_asking\]: \[nova\] auth_type: missing: say auth_type = password there"),
        ("[reporter_asking]\nauth_section = otehr\n", r"\[reporter_asking\]: \[otehr\] auth_type: missing"),
        ("[nova]\nauth_section = otehr\n", r"\[reporter_asking\]: \[otehr\] auth_type: missing"),
        ("[nova]\nauth_type = nonsense\n", r"\[reporter_asking\]: \[nova\] makes no sense: .*nonsense"),
        ("[nova]\nauth_type = password\n", r"\[reporter_asking\]: \[nova\] makes no sense: "),
        ("[reporter_asking]\nusername = u\n", r"\[reporter_asking\]: .*auth_url"),
    ],
)
def test_what_is_missing(tmp_path: Path, text: str, says: str) -> None:
    """Named, with the group in which it is looked for."""
    with pytest.raises(BadReporter, match=says):
        asking(read(tmp_path, text))
