"""The command ``mpqueue``: its help, its exit status, and its start-up time."""

import os
import re
import subprocess
import sys

import pytest
from helpers.commands import status_at_exit
from helpers.package_structure import ROOT

from mpqueue import __main__ as command
from mpqueue.__main__ import COMMANDS, main
from mpqueue.commands import frame


@pytest.mark.parametrize("arguments", [[], ["no-such"], ["--no-such"]])
def test_commands_are_listed_without_a_command(capsys, arguments):
    assert status_at_exit(*arguments) == 2
    assert "COMMAND" in capsys.readouterr().err


def test_help_names_each_command(capsys):
    assert status_at_exit("--help") == 0
    output = capsys.readouterr().out
    assert [what for _, what in COMMANDS.values() if what not in output] == []


def test_command_runs_without_standard_streams():
    """The shell closes them: ``mpqueue state absent >&- 2>&-``."""
    closed = "import os, sys; [os.close(fd) for fd in range(3)]; os.execv(sys.executable, sys.argv[1:])"
    command = [sys.executable, "-c", closed, sys.executable, "-m", "mpqueue"]
    assert subprocess.run([*command, "state", "absent"], check=False).returncode == 1
    assert subprocess.run([*command, "--version"], check=False).returncode == 0


def test_docs_page_has_a_row_for_each_command():
    rows = re.findall(r"^\| `mpqueue ([a-z]+)", (ROOT / "docs/operations/command.md").read_text("utf-8"), re.MULTILINE)
    assert rows == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_an_example_and_json(capsys, name):
    assert status_at_exit(name, "--help") == 0
    output = capsys.readouterr().out
    assert output.startswith(f"usage: mpqueue {name}")
    assert f"examples:\n  mpqueue {name}" in output
    assert "--json" in output


@pytest.mark.parametrize("name", COMMANDS)
def test_unknown_option_exits_with_2(capsys, name):
    assert status_at_exit(name, "--no-such-option") == 2
    assert f"usage: mpqueue {name}" in capsys.readouterr().err


def test_version_is_printed(capsys):
    assert status_at_exit("--version") == 0
    assert capsys.readouterr().out.startswith("mpqueue ")


def test_help_imports_no_large_package():
    modules = ", ".join(f"mpqueue.commands.{name}" for name in sorted({*COMMANDS} - {"serve"}))
    code = (
        f"import sys, {modules}\n"
        "print([m for m in sys.modules if m in {'numpy', 'psutil', 'rich', 'cloudpickle', 'matplotlib', 'mpqueue.loader.loader'}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def raising(error):
    def main(arguments):
        raise error

    return main


@pytest.fixture
def failing(monkeypatch):
    """A command that raises the error that the test passes."""

    def fail(error):
        module = type(sys)("stand-in")
        module.main, module.__version__ = raising(error), "0"
        monkeypatch.setattr(command, "import_module", lambda name: module)
        return main(["serve"])

    return fail


def test_missing_extra_is_reported_with_its_remedy(failing, capsys):
    assert failing(frame.Missing("it needs that: install it")) == 2
    assert capsys.readouterr().err == "mpqueue serve: it needs that: install it\n"


def test_ctrl_c_exits_with_130_without_a_traceback(failing, capsys):
    assert failing(KeyboardInterrupt()) == 130
    assert capsys.readouterr() == ("", "")


def test_closed_pipe_ends_a_command_silently():
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "mpqueue", "doctor", "--json"]
    with open(write_end, "w") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (141, "")
