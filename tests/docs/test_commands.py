"""Every command that the documentation shows is run by a test, or says why not; and what stands in it is so."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

from tests.docs.commands import COMMANDS, ByTest, Here, How, Shown
from tests.docs.pages import ROOT, blocks, blocks_of, commands, commands_of, literals
from tests.unit.guest import agents
from tests.unit.guest.daemons import DaemonProcess
from tools.lib import run_tests
from vmhb_common.conf import check, groups
from vmhb_common.model import policy
from vmhb_consumer.cmd import consumer, manage
from vmhb_consumer.database import Database
from vmhb_guest import cmd as guest
from vmhb_guest.conformance import cmd as conformance
from vmhb_worker.cmd import worker

BIN = Path(sys.executable).parent
#: Seconds that one command may take, on however busy a machine.
PATIENCE = 120
#: A place where nobody listens.
NOWHERE = "127.0.0.1:1"


def known(command: str) -> How | None:
    """What runs this command, by the table."""
    return COMMANDS.get(command)


def test_every_command_is_run_or_says_why_not() -> None:
    """A command that is new needs a row in tests/docs/commands.py; a row whose command is gone leaves."""
    shown = {command: page for page, command in commands()}
    missing = [f"{page}: {command}" for command, page in shown.items() if known(command) is None]
    assert not missing, "no row in tests/docs/commands.py (or no command: say `.. code-block:: text`) of\n" + "\n".join(
        missing
    )
    assert sorted(COMMANDS.keys() - shown.keys()) == []


def test_a_command_that_is_new_is_found() -> None:
    """The test above can fail: by a plain block, by a shell's, and by a prompt among answers."""
    page = "Do this::\n\n    frobnicate --now \\\n        twice  # or thrice\n\n"
    page += ".. code-block:: console\n\n    $ a b\n    said c\n"
    found = [one for block in blocks_of("p", page) for one in commands_of(block.text, block.language)]
    assert found == ["frobnicate --now twice", "a b"]
    assert all(known(command) is None for command in found)
    other = ".. code-block:: text\n\n    a line of a log\n\n.. toctree::\n\n   a\n"
    assert [block.language for block in blocks_of("p", other)] == ["text"]


def test_every_test_that_is_named_is_there() -> None:
    """By its file and its name."""
    for how in COMMANDS.values():
        if isinstance(how, ByTest):
            path, _, name = how.by.partition("::")
            functions = ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
            assert name in {one.name for one in functions if isinstance(one, ast.FunctionDef)}, how.by
        if isinstance(how, Shown):
            assert len(how.why) > 20


# -- those that are run here -------------------------------------------------------------------------------------------


def of(scene: str) -> list[str]:
    """The commands of a scene, in the order in which the pages have them."""
    wanted = [command for _, command in commands() if known(command) == Here(scene)]
    return list(dict.fromkeys(wanted))


def shell(command: str, folder: Path, **environ: str) -> tuple[int, str]:
    """Run a command as it stands; exit code, and all that it said."""
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), **environ}
    done = subprocess.run(
        ["bash", "-ec", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    return done.returncode, done.stdout + done.stderr


def test_every_scene_is_played() -> None:
    """A row that names another scene would be run by nothing."""
    played = {name.removeprefix("test_scene_") for name in globals() if name.startswith("test_scene_")}
    assert {how.scene for how in COMMANDS.values() if isinstance(how, Here)} == played


def test_scene_worker(tmp_path: Path) -> None:
    """The configuration of its page is good, but for what is not there."""
    (command,) = of("worker")
    wrong = checked(command, "docs/operator.rst", "state_path", tmp_path)
    assert wrong <= {"[DEFAULT] transport_url", "[libvirt] connection_uri"} and "[DEFAULT] transport_url" in wrong


def test_scene_consumer(tmp_path: Path) -> None:
    """The same of the consumer."""
    (command,) = of("consumer")
    wrong = checked(command, "docs/consumer.rst", "rabbit_quorum_queue", tmp_path)
    brokers = {"[DEFAULT] transport_url", "[nova_notifications] transport_url"}
    assert brokers <= wrong <= {*brokers, "[consumer] reporters"}, "Masakari, by default, wants credentials"


def checked(command: str, page: str, has: str, folder: Path) -> set[str]:
    """Run a check with the page's configuration, and a broker that is nowhere: the options that it complains of."""
    (config,) = (one.text for one in blocks() if one.page == page and one.language == "ini" and has in one.text)
    config = re.sub(r"(transport_url = rabbit://\S+@)[\w.:-]+", rf"\g<1>{NOWHERE}", config)
    file = folder / "etc.conf"
    file.write_text(config.replace("[DEFAULT]\n", f"[DEFAULT]\nstate_path = {folder}\n", 1))
    code, said = shell(re.sub(r"/etc/vmhb/\S+\.conf", str(file), command), folder)
    assert code == 1, said
    found = set()
    for line in said.splitlines():
        option, _, rest = line.partition(": ")
        assert "unknown option" not in rest and option.startswith("["), said
        found.add(option)
    return found


def test_scene_button(tmp_path: Path) -> None:
    """Pressed, shown and released, in the database of a consumer that runs."""
    database = Database(f"sqlite:///{tmp_path}/nova-vmhb-consumer.sqlite")
    database.open()
    try:
        config = tmp_path / "consumer.conf"
        config.write_text(f"[DEFAULT]\nstate_path = {tmp_path}\n")
        said = [
            shell(command.replace("nova-vmhb-manage", f"nova-vmhb-manage --config-file {config}"), tmp_path)
            for command in of("button")
        ]
    finally:
        database.close()
    assert [code for code, _ in said] == [0, 0, 0], said
    assert "storage is being moved" in said[0][1] and "storage is being moved" in said[1][1]


def test_scene_tables(tmp_path: Path) -> None:
    """Made, looked at, checked, and emptied of what is long over."""
    own, admin = tmp_path / "consumer.conf", tmp_path / "admin.conf"
    own.write_text(f"[DEFAULT]\nstate_path = {tmp_path}\n[consumer]\nreporters = log\n")
    admin.write_text(f"[database]\nconnection = sqlite:///{tmp_path}/nova-vmhb-consumer.sqlite\n")
    for command in of("tables"):
        program, _, words = command.partition(" ")
        named = words if "--config-file" in words else f"--config-file /etc/vmhb/nova-vmhb-consumer.conf {words}"
        here = named.replace("/etc/vmhb/nova-vmhb-consumer.conf", str(own)).replace("/root/vmhb-admin.conf", str(admin))
        code, said = shell(f"{program} {here}", tmp_path)
        assert code == 0, f"{command}: {said}"


def test_scene_reporter(tmp_path: Path) -> None:
    """Whoever follows the page has a reporter, with a name of its own, that passes the kit."""
    code, said = shell(
        "\n".join(of("reporter")) + "\npython -m pytest -q -p no:cacheprovider .", ROOT, HOME=str(tmp_path)
    )
    assert code == 0, said
    assert "14 passed" in said
    assert not re.search(r"pager(?<!mypager)", (tmp_path / "my-pager/vmhb_mypager.py").read_text().lower())


def test_scene_guest(tmp_path: Path) -> None:
    """Said to a daemon, and by it to the host."""
    with DaemonProcess(tmp_path) as daemon:
        daemon.start()
        for command in of("guest"):
            program, *words = shlex.split(command)
            assert program == "vmhb-guest" and daemon.command(*words).returncode == 0, command
        daemon.host.ask()
        assert [one["reason"] for one in daemon.host.said("maintenance")] == ["kernel update"]
        assert [one["reason"] for one in daemon.host.said("goodbye")] == ["being rebuilt"]


def test_scene_guest_is_left(tmp_path: Path) -> None:
    """What is installed by hand is taken away by hand: nothing of ours stays but the folder of checks."""
    for folder in ("lib/udev/rules.d", "lib/systemd/system", "lib/tmpfiles.d"):
        (tmp_path / folder).mkdir(parents=True)
    installed = [one for page, one in commands() if page == "docs/guest.rst" and re.match("(install|ln) ", one)]
    for command in (*installed, *of("guest_is_left")):
        code, said = shell(re.sub(r"(?<![\w.])/(?=(etc|lib)/)", f"{tmp_path}/", command), ROOT / "etc/guest")
        assert code == 0, f"{command}: {said}"
        if command == installed[-1]:
            assert len(list(tmp_path.rglob("*vmhb-guest*"))) == 5
    left = {str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*") if "vmhb" in str(one.relative_to(tmp_path))}
    assert left == {"etc/vmhb", "etc/vmhb/checks.d"}


def test_scene_conformance(tmp_path: Path) -> None:
    """Against the smallest agent that there is."""
    (command,) = of("conformance")
    with agents.Agent(tmp_path / "port"):
        code, said = shell(command.replace("vmhb-guest-conformance", "python -m vmhb_guest.conformance"), tmp_path)
    assert code == 0, said


@pytest.mark.long
def test_scene_installation(tmp_path: Path) -> None:
    """Below a folder instead of /, and without what the worker requires, which the tests' own Python has: a worker that
    runs, its configuration and its unit; an upgrade; and nothing left."""
    for folder in ("etc/vmhb", "etc/systemd/system", "usr/bin", "var/lib/vmhb", "opt"):
        (tmp_path / folder).mkdir(parents=True)
    libraries = next(Path(sys.prefix).glob("lib/python3*/site-packages"))
    environ = {"PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environ["PYTHONPATH"] = str(libraries)
    *steps, away = (re.sub(r"(?<![\w.])/(?=(etc|usr|opt|var)/)", f"{tmp_path}/", one) for one in of("installation"))
    assert away.startswith("rm -r ")
    for step in steps:
        code, said = shell(step, ROOT, **environ)
        assert code == 0, f"{step}: {said}"
    assert (tmp_path / "etc/systemd/system/vmhb-worker.service").exists()
    worker = str(tmp_path / "usr/bin/vmhb-worker")
    code, said = shell(
        f"{worker} --config-file {tmp_path}/etc/vmhb/vmhb-worker.conf --check-config", tmp_path, **environ
    )
    assert code == 1 and "unknown option" not in said and "[DEFAULT] transport_url" in said, said
    assert (tmp_path / "etc/systemd/system/nova-vmhb-consumer.service").exists()
    for program in ("nova-vmhb-consumer", "nova-vmhb-manage", "nova-vmhb-status"):
        assert shell(f"{tmp_path}/usr/bin/{program} --help", tmp_path, **environ)[0] == 0, program
    assert shell(away, tmp_path)[0] == 0
    assert not (tmp_path / "opt/nova-vmhb").exists() and not (tmp_path / "etc/vmhb").exists()


# -- what stands in them -----------------------------------------------------------------------------------------------


def said_of_ours() -> Iterator[tuple[str, list[str]]]:
    """Page and words of all that is shown of our programs, in blocks and in running text."""
    for page, text in [*commands(), *literals()]:
        for part in re.split(r"\s*&&\s*", text):
            with contextlib.suppress(ValueError):  # half a quotation: no command
                words = shlex.split(part)
                if len(words) > 1 and words[0] in PARSERS:
                    yield page, words


def with_options(names: set[str]) -> Callable[[list[str]], object]:
    """Of a program whose options are made from its configuration."""

    def parse(words: list[str]) -> None:
        unknown = {word.partition("=")[0] for word in words if word.startswith("--")} - names
        assert not unknown, unknown

    return parse


def status(words: list[str]) -> None:
    assert [word for word in words if not word.startswith("--")] in (["upgrade", "check"], ["upgrade"], []), words


def driver(words: list[str]) -> None:
    assert len(words) == 1 and words[0] in ("install", "status", "remove"), words


USUAL = {"--help", "--version", "--config-file", "--config-dir", "--check-config", "--debug"}
PARSERS: dict[str, Callable[[list[str]], object]] = {
    "nova-vmhb-manage": lambda words: manage._parser().parse_args(words),
    "nova-vmhb-driver": driver,
    "nova-vmhb-status": status,
    "nova-vmhb-consumer": with_options({*USUAL, "--status"}),
    "vmhb-worker": with_options(USUAL),
    "vmhb-guest": lambda words: guest._parser().parse_args(words),
    "vmhb-guest-conformance": lambda words: conformance._parser().parse_args(words),
    "tools/test": run_tests._arguments,
}


def test_our_programs_know_what_is_said_of_them() -> None:
    """In blocks and in running text: no subcommand, no option that they have not."""
    told = list(said_of_ours())
    assert len(told) > 30
    wrong = []
    for page, (program, *words) in told:
        try:
            with contextlib.redirect_stderr(io.StringIO()) as said:
                PARSERS[program](words)
        except (SystemExit, AssertionError) as error:
            # A text may name a command without what it wants to be told; a block is to be typed.
            named = "arguments are required" in said.getvalue() and (page, " ".join([program, *words])) in literals()
            if getattr(error, "code", 1) and not named:
                wrong.append(f"{page}: {program} {' '.join(words)}: {said.getvalue().strip() or error}")
    assert not wrong, "\n".join(wrong)


def test_the_tools_are_there() -> None:
    """Whatever is said to be run from the project's folder is in it, and can be run."""
    for page, text in [*commands(), *literals()]:
        if found := re.match(r"(?:\w+=\S+ )*((?:tools|etc)/[\w./-]+)(?: |$)", text):
            path = ROOT / found[1]
            assert path.exists(), f"{page}: {text}"
            assert not found[1].startswith("tools/") or path.is_dir() or path.suffix or os.access(path, os.X_OK), text


def test_the_extra_specs_are_ours() -> None:
    """Names and values that flavors are given, wherever they are written."""
    seen = 0
    for page, text in [*commands(), *literals()]:
        given = dict(re.findall(r"(hw:heartbeat\w*)=([\w.-]+)", text))
        seen += len(given)
        wanted = policy.knobs_of_extra_specs({"hw:heartbeat": "true", **given})
        if given and "soon" not in given.values():  # that is the example of nonsense
            parsed = policy.parse(wanted)
            assert not parsed.warnings, f"{page}: {text}: {parsed.warnings}"
    assert seen > 20


#: Configuration of others' services, by a word that it has; nobody here can check it.
OTHERS = {
    "versioned_notifications_topics": "nova.conf",
    "compute_driver = vmhb": "nova.conf",
    "taskflow_driver_recovery_flows": "masakari-custom-recovery-methods.conf",
    "ExecStart": "systemd",
    "listeners.ssl.default": "rabbitmq.conf",
}


@pytest.mark.parametrize("block", [one for one in blocks() if one.language == "ini"], ids=lambda one: one.page)
def test_configuration_is_known(block: object, tmp_path: Path) -> None:
    """Each example is taken by the worker or by the consumer: all names known, all values good."""
    page, text = getattr(block, "page", ""), getattr(block, "text", "")
    if any(word in text for word in OTHERS):
        return
    file = tmp_path / "etc.conf"
    file.write_text(text.replace("mypager", "webhook").replace("\nkey = ", "\ntoken = "))
    wrong = [_complaints(program, file) for program in (worker.PROGRAM, consumer.PROGRAM)]
    assert [] in wrong, f"{page}: {wrong}"


def _complaints(program: object, file: Path) -> list[str]:
    from vmhb_common.app import command_line  # noqa: PLC0415 -- with oslo.log, which is to be read late

    assert isinstance(program, command_line.Program)
    conf = cfg.ConfigOpts()
    groups.register(conf, program.groups)
    unknown = command_line.read(program, ["--config-file", str(file)], conf)
    return [str(one) for one in (*unknown, *check.bad_values(conf, program.groups))]
