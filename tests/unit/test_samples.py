"""The sample configurations: every section and option of every namespace that they are made of, and of every reporter.

Help texts of ours are compared, too. Those of libraries, and of keystoneauth, change with their versions: of these,
names.
"""

from __future__ import annotations

import configparser
import importlib
import io
import re
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from oslo_config import cfg, generator

from vmhb_consumer import conf as consumer_conf
from vmhb_worker import conf as worker_conf

ROOT = Path(__file__).parent.parent.parent
#: What makes a sample, and the entry points of ours that have to be among its namespaces.
SAMPLES = {
    "config-generator.conf": ("vmhb_worker",),
    "consumer-config-generator.conf": ("nova_vmhb", "nova_vmhb.nova", "nova_vmhb.reporters"),
}
#: Those that each of ours with help texts of our own has.
SECTIONS = {
    "vmhb_worker": [
        "[DEFAULT]",
        "[agent]",
        "[channel]",
        "[faults]",
        "[libvirt]",
        "[policy]",
        "[verdict]",
        "[vmhb_notifications]",
    ],
    "nova_vmhb": [
        "[DEFAULT]",
        "[consumer]",
        "[faults]",
        "[nova_notifications]",
        "[recovery]",
        "[upgrade_levels]",
        "[vmhb_notifications]",
    ],
}
AGAIN = "oslo-config-generator --config-file etc/vmhb/"

#: Section -> whose part of it -> names of options.
Options = dict[str, dict[str, set[str]]]


def options_in(sample: str) -> Options:
    """All that a sample has."""
    found: Options = {}
    section = whose = ""
    for line in sample.splitlines():
        if title := re.fullmatch(r"\[(\w+)\]", line):
            section, whose = title[1], ""
            found.setdefault(section, {})
        elif said := re.fullmatch(r"# From (\S+)", line):
            whose = said[1]
            found[section].setdefault(whose, set())
        elif option := re.match(r"#(\w+) = ", line + " "):
            found[section][whose].add(option[1])
    return found


def settings_of(name: str) -> tuple[list[str], str]:
    """The namespaces, and the sample."""
    lines = (ROOT / "etc/vmhb" / name).read_text().splitlines()
    pairs = [line.partition(" = ")[::2] for line in lines]
    (output,) = (value for key, value in pairs if key == "output_file")
    return [value for key, value in pairs if key == "namespace"], (ROOT / output).read_text()


def sample_of(namespaces: Iterable[str]) -> str:
    """As oslo-config-generator makes it."""
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    arguments = [word for one in namespaces for word in ("--namespace", one)]
    conf(["--wrap-width", "100", *arguments], default_config_files=[], default_config_dirs=[])
    out = io.StringIO()
    generator.generate(conf, out)
    return out.getvalue()


def pinned(package: str) -> bool:
    """Is it installed in the version of constraints.txt, which the samples are made with?"""
    return f"{package}=={metadata.version(package)}" in (ROOT / "constraints.txt").read_text(encoding="utf-8").split()


def rows(group: str) -> Mapping[str, str]:
    """Entry points of setup.cfg."""
    setup = configparser.ConfigParser()
    setup.optionxform = str  # type: ignore[assignment,method-assign]
    setup.read(ROOT / "setup.cfg")
    return dict(row.split(" = ") for row in setup["entry_points"][group].strip().splitlines())


@pytest.mark.parametrize("conf", [worker_conf, consumer_conf])
def test_every_help_text_says_something(conf: ModuleType) -> None:
    """What happens, when to change it, and the bounds of a number."""
    for _group, opts in conf.list_opts():
        for opt in opts:
            assert opt.help and len(opt.help) > 80, opt.name
            low, high = getattr(opt.type, "min", None), getattr(opt.type, "max", None)
            if low is not None:
                assert re.search(rf"\b{low:.15g} to {high:.15g}\b", opt.help), opt.name


@pytest.mark.parametrize("name", SAMPLES)
def test_help_texts_of_ours_are_current(name: str) -> None:
    """Each of our sections is in the sample, word for word."""
    (ours, *_), sample = SAMPLES[name], settings_of(name)[1]
    sections = re.split(r"(?m)^(?=\[)", sample_of([ours]))[1:]
    assert [section.partition("\n")[0] for section in sections] == SECTIONS[ours]
    for section in sections:
        text = section.removeprefix("[DEFAULT]").strip()
        # It must end where ours ends: at another section, another library's part, or the end.
        at_its_end = re.escape(text) + r"\s*(\Z|\n\[|\n#\n# From)"
        assert re.search(at_its_end, sample), f"{section.splitlines()[0]}: run {AGAIN}{name}"


@pytest.mark.parametrize("name", SAMPLES)
def test_every_namespace_is_in_its_sample(name: str) -> None:
    """Ours with exactly the options that there are; a library's with all of the sections that it has here."""
    namespaces, sample = settings_of(name)
    assert {*SAMPLES[name]} <= {*namespaces}
    there = options_in(sample)
    for section, parts in options_in(sample_of(namespaces)).items():
        for whose, options in parts.items():
            in_sample = there.get(section, {}).get(whose)
            assert in_sample is not None, f"[{section}] has nothing from {whose}: run {AGAIN}{name}"
            # Some of ours are made by keystoneauth: an older release of it than the samples' has fewer of them.
            as_there = in_sample == options if pinned("keystoneauth1") else in_sample >= options
            assert whose not in SAMPLES[name] or as_there, f"[{section}]: run {AGAIN}{name}"


def test_every_reporter_is_in_the_sample() -> None:
    """By setup.cfg, whatever is installed: its section, with exactly its options."""
    there = options_in(settings_of("consumer-config-generator.conf")[1])
    found = {}
    for name, where in rows("vmhb.reporters").items():
        module, _, attribute = where.partition(":")
        options = {opt.dest for opt in getattr(importlib.import_module(module), attribute).options()}
        if options:
            found[f"reporter_{name}"] = {"nova_vmhb.reporters": options}
    assert {section: parts for section, parts in there.items() if section.startswith("reporter_")} == found


def test_every_namespace_of_ours_makes_a_sample() -> None:
    """One that is new has to be in one of them."""
    assert {*rows("oslo.config.opts")} == {one for names in SAMPLES.values() for one in names}


@pytest.mark.parametrize("group", ["vmhb.reporters", "oslo.config.opts", "console_scripts"])
def test_what_is_installed_is_what_setup_cfg_says(group: str) -> None:
    """An entry point is found only after the installation that is made anew."""
    installed = {point.name: point.value for point in metadata.entry_points(group=group)}
    missing = {name for name, value in rows(group).items() if installed.get(name) != value}
    assert not missing, f"{', '.join(sorted(missing))} of {group} is not installed: pip install -e . again"


def test_a_section_that_is_missing_is_found() -> None:
    """The tests above can fail."""
    sample = settings_of("consumer-config-generator.conf")[1]
    without = re.sub(r"(?s)\[reporter_webhook\].*?(?=\n\[)", "", sample)
    assert "reporter_webhook" in options_in(sample) and "reporter_webhook" not in options_in(without)
    assert "token" in options_in(sample)["reporter_webhook"]["nova_vmhb.reporters"]
