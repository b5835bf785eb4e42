"""What we require fits what operators have: OpenStack's constraints, and the sets that our own tests run with.

Reads files only; that pip finds a whole set, and that the unit tests pass with it, is `tools/test bounds`.
"""

from __future__ import annotations

import ast
import configparser
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.lib import prepare

ROOT = Path(__file__).parent.parent.parent
#: The oldest release that we support, whose versions are our lower bounds.
OLDEST = "2025.2"
RELEASES = {name: ROOT / f"tests/constraints/openstack-{name}.txt" for name in (OLDEST, "2026.1")}
#: Of ours. Those of a release, of which 2026.1 has given up 3.10.
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
SUPPORTED = [(name, python) for name in RELEASES for python in PYTHONS if (name, python) != ("2026.1", "3.10")]
#: The extras that operators install; those for tests are not installed beside OpenStack.
OPERATORS = ("client", "worker", "consumer", "nova", "vitrage")
#: What OpenStack's constraints have no version of, and why.
NOT_IN_OPENSTACK = {
    "vitrage": "a service, which no other project requires: it is pinned in setup.cfg",
    **dict.fromkeys(
        ("atheris", "hypothesis", "mypy", "ruff", "types-docutils", "types-jsonschema"), "OpenStack's tests do without"
    ),
}


def extras() -> dict[str, list[Requirement]]:
    """The extras of setup.cfg; what is required without any has the name ''."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    found = {"": [Requirement(line) for line in lines if line and not line.startswith("#")]}
    for name, value in setup["extras"].items():
        # pbr takes a marker in its own way, with a colon.
        rows = [row.strip() for row in value.strip().splitlines()]
        found[name] = [Requirement(row.replace(":python_version", "; python_version")) for row in rows]
    return found


def constraints(path: Path, python: str) -> dict[str, str]:
    """Package -> the version that this file has for this Python."""
    found: dict[str, str] = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            one = Requirement(line)
            if one.marker is None or one.marker.evaluate({"python_version": python}):
                found[canonicalize_name(one.name)] = next(iter(one.specifier)).version
    return found


def refused(required: list[Requirement], pins: Mapping[str, str]) -> Iterator[str]:
    """The requirements that these versions do not meet."""
    for one in required:
        version = pins.get(canonicalize_name(one.name))
        if version is not None and not one.specifier.contains(version, prereleases=True):
            yield f"{one} is not met by {version}"


@pytest.mark.parametrize(("release", "python"), SUPPORTED)
@pytest.mark.parametrize("extra", ["", *OPERATORS, "test"])
def test_openstacks_own_versions_will_do(release: str, python: str, extra: str) -> None:
    """`pip install -c upper-constraints.txt 'nova-vmhb[extra]'` is refused by none of our bounds."""
    pins = constraints(RELEASES[release], python)
    required = extras()[extra]
    assert list(refused(required, pins)) == []
    unknown = {one.name for one in required if canonicalize_name(one.name) not in pins}
    assert unknown <= NOT_IN_OPENSTACK.keys()


@pytest.mark.parametrize("extra", ["", *OPERATORS])
def test_lower_bounds_are_those_of_the_oldest_release(extra: str) -> None:
    """Each is what `tools/test bounds` has really run with: not lower, which nobody tried, and not higher."""
    pins = constraints(RELEASES[OLDEST], PYTHONS[0])
    for one in extras()[extra]:
        if one.name not in NOT_IN_OPENSTACK:
            lowest = [part.version for part in one.specifier if part.operator == ">="]
            assert lowest == [pins[canonicalize_name(one.name)]], str(one)


def environments() -> list[prepare.Environment]:
    """All of `tools/lib/prepare.py` that have constraints."""
    found = [one for one in vars(prepare).values() if isinstance(one, prepare.Environment)]
    return [one for one in found if one.constraints]


@pytest.mark.parametrize("environment", environments(), ids=lambda one: one.name)
def test_our_own_sets_fit(environment: prepare.Environment) -> None:
    """A bound that one of our environments can't meet is found here, rather than when it is made."""
    pins = constraints(ROOT / environment.constraints, environment.python or "3.11")
    for extra in ("", *environment.extras):
        assert list(refused(extras()[extra], pins)) == []


def test_each_release_is_tried() -> None:
    """There is an environment for each of OpenStack's constraints that are here, with all that we can test in it."""
    tried = {one.constraints: one for one in environments() if one.name.startswith(".venv-openstack")}
    assert set(tried) == {str(path.relative_to(ROOT)) for path in (ROOT / "tests/constraints").iterdir()}
    assert {str(path.relative_to(ROOT)) for path in RELEASES.values()} == set(tried)
    for one in tried.values():
        assert set(one.extras) >= {*OPERATORS, "test"} - {"vitrage"}


def test_the_oldest_python_is_tried_with_the_oldest_release() -> None:
    """What setup.cfg promises, mypy and ruff hold us to, and `tools/test bounds` runs with, is one version."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["metadata"]["python_requires"] == f">={PYTHONS[0]}"
    told = {row.rpartition(" :: ")[2] for row in setup["metadata"]["classifier"].splitlines() if "Python :: 3." in row}
    assert told == {*PYTHONS}
    project = (ROOT / "pyproject.toml").read_text()
    assert f'\npython_version = "{PYTHONS[0]}"\n' in project
    assert f'\ntarget-version = "py{PYTHONS[0].replace(".", "")}"\n' in project
    assert (prepare.OLDEST.python, prepare.OLDEST.constraints) == (
        PYTHONS[0],
        prepare.OPENSTACK_2025_2.constraints,
    )


def test_the_oldest_nova_stands_beside_its_own_libraries() -> None:
    """tests/nova in Nova of 2025.2 runs with what OpenStack's constraints of 2025.2 have, wherever they have it."""
    ours = constraints(ROOT / prepare.NOVA_32.constraints, "3.11")
    assert ours["nova"].startswith("32.")
    theirs = constraints(RELEASES[OLDEST], "3.11")
    other = {name: version for name, version in ours.items() if theirs.get(name, version) != version}
    assert other.keys() <= {"pip", "setuptools", "wheel", "pbr"}


def private_modules() -> dict[str, set[str]]:
    """Library -> its private modules that we import."""
    found: dict[str, set[str]] = {}
    for package in ("nova_vmhb", "vmhb_common", "vmhb_consumer", "vmhb_worker"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                named = node.module if isinstance(node, ast.ImportFrom) else None
                names = [one.name for one in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
                for name in (f"{named}.{one}" if named else one for one in names):
                    library, _, inside = name.partition(".")
                    if any(part.startswith("_") for part in inside.split(".")):
                        found.setdefault(library, set()).add(name)
    return found


def test_what_is_private_is_capped() -> None:
    """A library whose private parts we use may change them in any release: none is taken that nobody has tried."""
    assert private_modules().keys() == {"oslo_messaging"}
    tried = constraints(ROOT / prepare.FULL.constraints, "3.11")["oslo-messaging"]
    cap = f"<{int(tried.partition('.')[0]) + 1}"
    asked = {str(one.specifier) for extra in OPERATORS for one in extras()[extra] if one.name == "oslo.messaging"}
    assert len(asked) == 1 and cap in asked.pop().split(",")
