"""[faults]: who may say what. The same of worker and consumer; each says what it is about in its own words."""

from __future__ import annotations

from pathlib import Path

from oslo_config import cfg

from vmhb_common.conf.types import prose
from vmhb_common.model.senders import SENDERS, SenderCheck, SenderSettings

GROUP = "faults"
HELP = "Who may say what: keys of workers and consumers"


def options(key: str, what: str, whose: str) -> list[cfg.Opt]:
    """key: the file of one's own, by default. what: is checked. whose: keys are needed for that."""
    return [
        cfg.StrOpt(
            "sender_check",
            default=str(SenderCheck.WARN),
            choices=[
                (str(SenderCheck.OFF), "Whoever may write to the broker is believed."),
                (str(SenderCheck.WARN), "Said in the log, and acted on."),
                (str(SenderCheck.ENFORCE), "Said in the log, and not acted on."),
            ],
            mutable=True,
            help=prose(
                f"""
What is done with {what} that is not signed by whom it concerns.

warn is for the time in which not all have keys. Set enforce once the log warns of nobody any more: until then whoever
holds a login to the broker can speak for any host. What is signed with another host's key is acted on with off only.
"""
            ),
        ),
        cfg.StrOpt(
            "sender_key",
            default=key,
            help=prose(
                """
The file of the key that what is sent is signed with, made by vmhb-keys make; for its user alone (mode 600). Where there
is none, what is sent is not signed. It is read again once it has changed.
"""
            ),
        ),
        cfg.StrOpt(
            "senders",
            default=SENDERS,
            help=prose(
                f"""
The public keys of {whose}: a file, or a folder whose .keys files are read, of lines as vmhb-keys writes them. It is
read again once it has changed: who is taken away is not trusted any more.
"""
            ),
        ),
    ]


def settings(conf: cfg.ConfigOpts) -> SenderSettings:
    """The plain values. Raises ValueError where one is out of bounds."""
    group = conf[GROUP]
    return SenderSettings(Path(group.sender_key), SenderCheck(group.sender_check), Path(group.senders))
