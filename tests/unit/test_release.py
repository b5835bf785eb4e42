"""What a release consists of: built of a commit and its tag, and again of its source archive, without git."""

from __future__ import annotations

import configparser
import email
import email.message
import re
import shutil
import subprocess
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.lib import release

ROOT = Path(__file__).parent.parent.parent
HOME = "https://git.example/nova-vmhb"
#: Names of whoever publishes; nothing of ours is published yet, so nothing of ours may say that it is.
OURS = ("nova-vmhb", "nova_vmhb", "vmhb-guest")

pytestmark = pytest.mark.skipif(
    not (ROOT / ".git").exists() or not shutil.which("git"), reason="a release is made of git's history"
)


@dataclass(frozen=True)
class Built:
    """What was built, unpacked where that is of use."""

    archive: Path
    files: frozenset[str]  # of the source archive, below its folder
    changelog: str
    wheel: Path
    names: frozenset[str]
    metadata: email.message.Message


def git(tree: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example")
    done = subprocess.run(["git", *who, *arguments], cwd=tree, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def built(tree: Path, folder: Path, home: str) -> Built:
    archive, wheel = release.build(tree, folder, home)
    with tarfile.open(archive) as packed:
        files = frozenset(name.partition("/")[2] for name in packed.getnames())
        member = packed.extractfile(f"{archive.name.removesuffix('.tar.gz')}/{release.CHANGELOG}")
        changelog = member.read().decode() if member else ""
    with zipfile.ZipFile(wheel) as packed:
        names = frozenset(packed.namelist())
        told = next(packed.read(name).decode() for name in names if name.endswith("dist-info/METADATA"))
    return Built(archive, files, changelog, wheel, names, email.message_from_string(told))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This commit, tagged as if it were to be released, and what of the working tree a release would be built with."""
    tree = tmp_path_factory.mktemp("release") / "tree"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(tree)], check=True)
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "README.rst"):
        shutil.copy(ROOT / name, tree)
    git(tree, "commit", "-qam", "what is being changed", "--allow-empty")
    git(tree, "tag", "-a", "7.0.0", "-m", "7.0.0")
    return tree


@pytest.fixture(scope="module")
def tagged(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built(tree, tmp_path_factory.mktemp("tagged"), HOME)


def test_the_version_is_the_tag(tagged: Built) -> None:
    """Of the source archive, of the wheel that is made of it without git, and of what that says of itself."""
    assert re.fullmatch(r"nova[_-]vmhb-7\.0\.0\.tar\.gz", tagged.archive.name)  # a dash: of builders before PEP 625
    assert tagged.wheel.name == "nova_vmhb-7.0.0-py3-none-any.whl"
    assert tagged.metadata["Version"] == "7.0.0"


def test_the_source_archive_is_whole(tree: Path, tagged: Built) -> None:
    """All that git has is in it: who packages us has the tests and the units as well."""
    assert {*git(tree, "ls-files").splitlines()} - {".gitignore"} <= tagged.files


def test_the_changelog_is_renos(tagged: Built) -> None:
    """By version, of the notes: not git's log, and no list of mail addresses."""
    assert re.search(r"^7\.0\.0\n=+$", tagged.changelog, re.MULTILINE)
    assert "Lower bounds of what is required are the versions of OpenStack 2025.2" in tagged.changelog
    assert not {"ChangeLog", "AUTHORS"} & tagged.files


def test_the_wheel_is_whole(tagged: Built) -> None:
    """Modules, their data, and every file that setup.cfg installs."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for package in setup["files"]["packages"].split():
        wanted = {name for name in tagged.files if name.startswith(f"{package}/") and not name.endswith("/")}
        assert {name for name in wanted if name.endswith((".py", ".json"))} <= tagged.names
    for word in setup["files"]["data_files"].split():
        if (ROOT / word).is_file():
            assert any(name.endswith(f"/{Path(word).name}") for name in tagged.names), word


def test_the_description_leads_somewhere(tagged: Built) -> None:
    """README.rst, its links below the home that the publisher names, and no other."""
    told, text = tagged.metadata, str(tagged.metadata.get_payload())
    assert told["Description-Content-Type"].startswith("text/x-rst")
    assert told["License"] == "Apache-2.0" or told["License-Expression"] == "Apache-2.0"
    assert told["Requires-Python"] == ">=3.10"
    urls = dict(row.split(", ", 1) for row in told.get_all("Project-URL", []))
    assert urls == {name: HOME + below for name, below in release.LINKS.items()}
    assert "Is this VM dead, and of what?" in text and f"<{HOME}/docs/reference.rst>`__" in text
    paths = re.findall(rf"<{re.escape(HOME)}/([^>]+)>", text)
    assert paths and all((ROOT / path).exists() for path in paths)


def test_after_the_tag(tree: Path, tmp_path: Path) -> None:
    """A later commit is a development version of the next; without a home, no link is left that leads nowhere."""
    git(tree, "commit", "-q", "--allow-empty", "-m", "more")
    after = built(tree, tmp_path, "")
    assert re.fullmatch(r"7\.0\.1\.dev1", after.metadata["Version"])
    text = str(after.metadata.get_payload())
    assert not re.search(r"<docs/", text) and "``docs/reference.rst``" in text
    assert after.metadata.get_all("Project-URL") is None and after.metadata["Home-Page"] is None


@pytest.mark.parametrize(
    ("text", "home", "described"),
    [
        ("see `docs/a.rst\n   <docs/a.rst>`_.", "", "see ``docs/a.rst``."),
        ("see `A <docs/a.rst>`__.", "", "see A (``docs/a.rst``)."),
        ("see `A <docs/a.rst>`_.", HOME, f"see `A <{HOME}/docs/a.rst>`__."),
        ("see `A <https://a.example/>`_, ``a <b>``.", HOME, "see `A <https://a.example/>`_, ``a <b>``."),
    ],
)
def test_links(text: str, home: str, described: str) -> None:
    """Those to files are turned, others and literals left as they are."""
    assert release.described(text, home) == described


def test_nothing_is_taken_from_an_index_that_has_it_not() -> None:
    """What is said to be installed is a folder or a file: by these names an index has nothing, or somebody else's."""
    documents = [ROOT / "README.rst", *(ROOT / "docs").rglob("*.rst"), *(ROOT / "packaging").rglob("*.rst")]
    for path in documents:
        for words in re.findall(r"pip install ([^\n`]+)", path.read_text(encoding="utf-8")):
            named = [word.strip("'\"").partition("[")[0] for word in words.split()]
            assert not {*named} & {*OURS}, f"{path.name}: pip install {words}"


def test_deployment_tools_do_not_guess_either() -> None:
    """Roles and images take us from where they are told, and name no home that is not there."""
    files = [path for path in (ROOT / "deploy").rglob("*") if path.is_file()]
    assert len(files) > 50
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"https?://\S*nova-vmhb", text), path
        for name, value in re.findall(r"^(vmhb_\w+_(?:source|requirement)): (.*)$", text, re.MULTILINE):
            assert value == '""', f"{path}: {name}"
        assert not re.search(r"""NOVA_VMHB_SOURCE", "[^"]""", text), path
