"""Gets the machine and a Python environment ready. Must not know what they are for.

Standard library only. Two runs at once are safe: the environment is held by a lock, shared while it is used,
exclusive while it is made.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from tools.lib import ubuntu

ROOT = Path(__file__).resolve().parent.parent.parent
#: What an environment is made from, besides its constraints: it is made anew when one of them changes.
SOURCES = ("requirements.txt", "setup.cfg", "setup.py", "pyproject.toml", "tools/lib/prepare.py")
#: Held by whoever uses an environment, for as long as the process lives.
_held: list[int] = []


class NotReady(Exception):
    """This machine lacks something that we may not, or cannot, install. The text says what to do."""


@dataclass(frozen=True)
class Missing:
    """One thing that this machine lacks: a sentence that says what and what for, and the Debian packages it is in."""

    sentence: str
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Environment:
    """A Python environment: its name under the project's folder, our extras that it has, and the file with the pins.

    constraints: "": none, so it has the newest of the index, and is made anew on another day.
    commit: it has the project as it was then, out of git's history, with the pins of that time; "": as it is.
    python: its Python, such as 3.10, wherever the machine has it, or else Ubuntu's; "": the one that this runs in.
    """

    name: str
    extras: tuple[str, ...]
    constraints: str = "constraints.txt"
    commit: str = ""
    python: str = ""

    @property
    def compiles(self) -> bool:
        """libvirt-python comes as source only."""
        return "worker" in self.extras


FULL = Environment(".venv", ("worker", "consumer", "docs", "test"))
#: For `tools/demo --simulate`: nothing to compile, no libvirt.
LIGHT = Environment(".venv-light", ("client",))
#: For `tests/nova`: Nova wants other releases of what we share than we do. Nothing in it has to be compiled.
NOVA = Environment(".venv-nova", ("nova", "nova-test"), "constraints-nova.txt")
#: For `tests/vitrage`.
VITRAGE = Environment(".venv-vitrage", ("vitrage", "vitrage-test"), "constraints-vitrage.txt")
#: The same tests inside the releases before, which are supported as well.
NOVA_33 = Environment(".venv-nova-33", ("nova", "nova-test"), "constraints-nova-33.txt")
NOVA_32 = Environment(".venv-nova-32", ("nova", "nova-test"), "constraints-nova-32.txt")
#: For `tests/cloud`: a whole OpenStack, and our parts installed into it as an operator would.
CLOUD = Environment(".venv-cloud", ("worker", "consumer", "nova", "cloud"), "constraints-cloud.txt")
#: Services of a release before ours, whose programs the tests of that name start beside us.
MISTRAL = Environment(".venv-mistral", ("mistral-test",), "constraints-mistral.txt")
TELEMETRY = Environment(".venv-telemetry", ("telemetry-test",), "constraints-telemetry.txt")
#: Masakari's own programs, for functional tests: they run beside us, never in our Python.
MASAKARI = Environment(".venv-masakari", ("masakari-test",), "constraints-masakari.txt")
#: For tests/deploy: kolla's and OpenStack-Ansible's own parts.
KOLLA = Environment(".venv-kolla", ("kolla-test",), "constraints-kolla.txt")
#: For tests/functional/test_upgrade.py: the project before its modules moved. Nothing in it has to be compiled.
BEFORE = Environment(".venv-before", ("consumer",), commit="b587278e1b88117d2b58ce1a34230f9cb997352f")

_TESTED = ("client", "worker", "consumer", "nova", "test")
#: Exactly what an operator has who installs us beside OpenStack's services of that release.
OPENSTACK_2025_2 = Environment(".venv-openstack-2025.2", _TESTED, "tests/constraints/openstack-2025.2.txt")
OPENSTACK_2026_1 = Environment(".venv-openstack-2026.1", _TESTED, "tests/constraints/openstack-2026.1.txt")
#: The oldest of both.
OLDEST = Environment(".venv-oldest", _TESTED, "tests/constraints/openstack-2025.2.txt", python="3.10")
#: What comes next: OpenStack has no list of 2026.2 yet, and the one after it begins as what the index has.
NEWEST = Environment(".venv-newest", _TESTED, constraints="")


def say(text: str) -> None:
    """Progress, for whoever watches."""
    print(text, flush=True)


@dataclass(frozen=True)
class Wants:
    """What a caller wants besides: `missing` says what of it there is not, one sentence each; `install` gets it."""

    missing: Callable[[], Sequence[str]]
    install: Callable[[], None]


def prepare(environment: Environment, wants: Wants | None = None) -> Path:
    """Make the machine ready and return the environment's folder; its `bin/python` is the one to use.

    Says what is missing before anything starts. Raises NotReady where it cannot be installed.
    """
    if environment is LIGHT and _is_made(place(FULL), _stamp(FULL)):
        environment = FULL  # has all of it, so there is no need of another
    folder, stamp = place(environment), _stamp(environment)
    lacking = _missing_for_venv(environment, folder, stamp)
    wanted = list(wants.missing()) if wants else []
    for sentence in [*(one.sentence for one in lacking), *wanted]:
        say(sentence)
    packages = sorted({package for one in lacking for package in one.packages})
    if packages or wanted:
        _check_that_we_may_install(packages)
    if packages:
        _apt_install(packages)
    if wants and wanted:
        _get(wants)
    _hold(environment, folder, stamp)
    return folder


def unavailable(environment: Environment) -> str:
    """Why this one can't be made here, whatever Debian has; "": it can. For want of git's history, or of a Python."""
    if environment.python and not _python(environment) and (problem := ubuntu.unavailable(environment.python)):
        here = f"there is no Python {environment.python} here, in PATH or of pyenv"
        return f"{environment.name} can't be made: {here}, and none of Ubuntu's: {problem}"
    if not environment.commit or _succeeds("git", "-C", str(ROOT), "cat-file", "-e", f"{environment.commit}^{{tree}}"):
        return ""
    short = environment.commit[:7]
    return (
        f"{environment.name} can't be made: commit {short} is not here: it takes git, and a clone that is not shallow"
    )


def _python(environment: Environment) -> str:
    """The program that it is made by; "": there is none. What only stands in PATH for pyenv does not count."""
    if not environment.python:
        return sys.executable
    name = f"python{environment.python}"
    kept = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [shutil.which(name) or "", *map(str, sorted(kept.glob(f"versions/{environment.python}.*/bin/{name}")))]
    return next((one for one in found if one and _succeeds(one, "-c", "import ensurepip, venv")), "")


def place(environment: Environment) -> Path:
    """Where it is, or would be. In the project's folder; where that is somebody else's, in the caller's cache."""
    if os.access(ROOT, os.W_OK):
        return ROOT / environment.name
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
    return cache / "nova-vmhb" / f"{environment.name.lstrip('.')}-{name}"


def _stamp(environment: Environment) -> str:
    # Not sys.executable: a test in one of these environments has another one, of the same Python.
    python = f"{sys.base_prefix} {sys.version}"
    if environment.python:
        python = _python(environment) or f"of Ubuntu {ubuntu.key(environment.python)}"
    day = "" if environment.constraints else f"{date.today()}"
    digest = hashlib.sha256(f"{python} {environment}{day}".encode())
    # What was committed once does not change.
    for source in () if environment.commit else (environment.constraints, *SOURCES):
        digest.update((ROOT / source).read_bytes() if source else b"")
    return digest.hexdigest()


def _is_made(folder: Path, stamp: str) -> bool:
    try:
        return (folder / "stamp").read_text() == stamp and (folder / "bin" / "python").exists()
    except OSError:
        return False


# -- what the machine lacks ------------------------------------------------------------------------------------------


def _missing_for_venv(environment: Environment, folder: Path, stamp: str) -> list[Missing]:
    if _is_made(folder, stamp):
        return []
    lacking = (
        []
        if _has_pip()
        else [Missing("Python's venv module is missing, which keeps what we install apart.", ("python3-venv",))]
    )
    if environment.compiles:
        lacking += _missing_to_compile()
    if problem := unavailable(environment):
        raise NotReady(f"{problem}.")
    why = "is out of date" if folder.exists() else "is missing"
    made = f"it will be made from {environment.constraints or 'the newest of the index'}"
    return [*lacking, Missing(f"The Python environment {folder.name} {why}: {made}.")]


def _missing_to_compile() -> list[Missing]:
    lacking = []
    if not shutil.which("gcc"):
        lacking.append(Missing("A C compiler is missing, to build libvirt-python.", ("gcc", "libc6-dev")))
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():  # of another Python, they are beside it
        lacking.append(Missing("Python's headers are missing, to build libvirt-python.", ("python3-dev",)))
    if not shutil.which("pkg-config"):
        lacking.append(Missing("pkg-config is missing, to build libvirt-python.", ("pkg-config",)))
    if not _succeeds("pkg-config", "--exists", "libvirt"):
        lacking.append(Missing("libvirt's headers are missing, to build libvirt-python.", ("libvirt-dev",)))
    return lacking


def _has_pip() -> bool:
    """Debian keeps ensurepip in a package of its own; a pip of this Python does as well."""
    return _succeeds(sys.executable, "-c", "import ensurepip, venv") or _has_pip_of_its_own()


def _has_pip_of_its_own() -> bool:
    return _succeeds(sys.executable, "-c", "import pip, venv")


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _check_that_we_may_install(packages: Sequence[str]) -> None:
    if os.geteuid() == 0 and shutil.which("apt-get"):
        return
    names = f": apt-get install {' '.join(packages)}" if packages else ""
    raise NotReady(f"Only root on Debian can have this installed here: run it as root, or install it yourself{names}.")


def _get(wants: Wants) -> None:
    say("installing what is missing ...")
    try:
        wants.install()
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotReady(f"Installing failed, see above ({error}): mend that, then try again.") from error
    if left := wants.missing():
        raise NotReady("\n".join(["Still missing, and not to be had by installing packages:", *left]))


def _apt_install(packages: Sequence[str]) -> None:
    say(f"installing {' '.join(packages)} ...")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Another run, or the machine's own upgrades, may be at it: wait for their lock.
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq", "-y"]
    for command in (["update"], ["install", "--no-install-recommends", *packages]):
        done = subprocess.run([*apt, *command], env=quiet, stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise NotReady(f"{' '.join([*apt, *command])} failed, see above: mend that, then try again.")


# -- the environment -------------------------------------------------------------------------------------------------


def _hold(environment: Environment, folder: Path, stamp: str) -> None:
    """Make it if need be, and keep it from being made anew for as long as this process lives."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    _held.append(lock)
    while True:
        _lock(lock, fcntl.LOCK_SH)
        if _is_made(folder, stamp):
            return
        _lock(lock, fcntl.LOCK_EX)
        if not _is_made(folder, stamp):
            _make(environment, folder, stamp)


def _lock(lock: int, how: int) -> None:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting for another run here, which uses the same Python environment ...")
        fcntl.flock(lock, how)


def _make(environment: Environment, folder: Path, stamp: str) -> None:
    """Empty the folder (which stays: it is the lock) and fill it."""
    say(f"making the Python environment {folder.name}: a minute or two ...")
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    if python := _python(environment) if environment.python else "":
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
    elif environment.python:
        _in_ubuntu(environment, folder)
    else:
        venv.create(folder, with_pip=_succeeds(sys.executable, "-c", "import ensurepip"), symlinks=True)
    extras = f"[{','.join(environment.extras)}]" if environment.extras else ""
    with _source(environment) as source:
        install = _install(environment, folder, source)
        # What builds is pinned as well, so it must be in the environment itself.
        _pip(source, [*install, "pbr", "setuptools", "wheel"])
        # What will be gone is copied; what is here is used as it is.
        editable = [] if environment.commit else ["-e"]
        _pip(source, [*install, "--no-build-isolation", *editable, f"{source}{extras}"])
    (folder / "stamp").write_text(stamp)


def _in_ubuntu(environment: Environment, folder: Path) -> None:
    say(f"there is no Python {environment.python} here: it is Ubuntu's, in a root of its own ...")
    try:
        ubuntu.make(environment.python, folder, ROOT)
    except ubuntu.Unavailable as error:
        raise NotReady(f"{folder.name} could not be made: {error}") from error
    _pip(ROOT, [*_install(environment, folder, ROOT), *ubuntu.BUILDERS])


@contextmanager
def _source(environment: Environment) -> Iterator[Path]:
    """The folder that the project is installed from: this one, or what git has of that commit, for as long."""
    if not environment.commit:
        yield ROOT
        return
    with tempfile.TemporaryDirectory(prefix="vmhb-source-") as folder:
        archive = Path(folder) / "source.tar"
        command = ["git", "-C", str(ROOT), "archive", "-o", str(archive), environment.commit]
        if subprocess.run(command, check=False).returncode:
            raise NotReady(f"git could not export commit {environment.commit}, see above: mend that, then try again.")
        source = Path(folder) / "source"
        shutil.unpack_archive(archive, source)
        yield source


def finds(environment: Environment, folder: Path, extras: Sequence[str]) -> bool:
    """Would pip find what these extras of ours need, all of them at once, in versions that the constraints allow?

    Says what it found in the way. Installs nothing.
    """
    quiet = "-q"  # -qq would keep the reason to itself
    install = [*_install(environment, folder, ROOT, quiet), "--dry-run", "--no-build-isolation"]
    return _run_pip(ROOT, [*install, f"{ROOT}[{','.join(extras)}]"]) == 0


def goes_beyond(environment: Environment, folder: Path, library: str) -> bool:
    """Can the newest of it be had, whatever our own bounds say? It is installed; pip says where it breaks a bound."""
    install = _install(environment, folder, ROOT, "-q")
    return _run_pip(ROOT, [*install, "--upgrade", "--no-deps", library]) == 0


def _install(environment: Environment, folder: Path, source: Path, quiet: str = "-qq") -> list[str]:
    """The beginning of pip's command line. Where Python has no ensurepip, its own pip works for the environment."""
    python = str(folder / "bin" / "python")
    inside = (folder / "bin" / "pip").exists()
    pip = [python, "-m", "pip"] if inside else [sys.executable, "-m", "pip", "--python", python]
    pins = ["-c", str(source / environment.constraints)] if environment.constraints else []
    return [*pip, "install", quiet, "--disable-pip-version-check", *pins]


def _pip(source: Path, command: Sequence[str]) -> None:
    if _run_pip(source, command):
        raise NotReady("pip could not install what the project needs, see above: mend that, then try again.")


def _run_pip(source: Path, command: Sequence[str]) -> int:
    # pbr asks git for the version; an unpacked archive has none to ask.
    version = {} if _succeeds("git", "-C", str(source), "rev-parse", "HEAD") else {"PBR_VERSION": "0.0.0"}
    return subprocess.run(command, env={**os.environ, **version}, cwd=source, check=False).returncode
