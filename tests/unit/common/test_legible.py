"""Whatever is said, a line of the log comes of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmhb_common.app.legible import legible, make_legible

LOG = logging.getLogger(__name__)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """The root's log, in UTF-8, which takes no surrogates."""
    handler = logging.FileHandler(tmp_path / "log", encoding="utf-8")
    logging.getLogger().addHandler(handler)
    make_legible()
    make_legible()
    assert len(handler.filters) == 1
    yield tmp_path / "log"
    logging.getLogger().removeHandler(handler)
    handler.close()


def test_a_surrogate(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a text, an argument, or what was raised: it is shown, and nothing is said of how logging fared."""
    LOG.warning("host %s", "cn\ud800")
    LOG.warning("\udfff %d%%", 7)
    try:
        raise ValueError("\ud800 is none")
    except ValueError:
        LOG.exception("no")
    LOG.warning("Tür %s", "für 1 €")
    written = file.read_text(encoding="utf-8")
    assert written.startswith("host cn\\ud800\n\\udfff 7%\nno\nTraceback")
    assert written.endswith("ValueError: \\ud800 is none\nTür für 1 €\n")
    assert "Logging error" not in capsys.readouterr().err


def test_a_mistake_in_how_it_is_said(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logging's to tell."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    LOG.warning("%d", "seven")
    LOG.warning("and on")
    assert file.read_text(encoding="utf-8") == "and on\n"


@pytest.mark.parametrize("text", ["", "plain", "\x00\n", "für", "\U0001f600"])
def test_all_else_is_as_it_was(text: str) -> None:
    """Whatever can be written."""
    assert legible(text) == text
