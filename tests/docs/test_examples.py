"""Every fenced block of the README and the documentation is run, or is in a list with the reason why it is not."""

import importlib.util
import re
import shlex
import subprocess
import tomllib

import pytest
from helpers import optional_packages
from helpers.commands import status_at_exit
from helpers.doc_pages import ROOT, blocks, run_example

import mpqueue

ALL = blocks()
PYTHON = [block for block in ALL if block.language == "python"]
FIRST_READ = ("README.md", "docs/start/", "docs/tensorflow-1/moving.md")  # only scripts/test --all runs the others
SHELL_LINES = [  # with lines that a backslash continues
    line for block in ALL if block.language == "sh" for line in re.sub(r"\\\n *", "", block.text).splitlines()
]
COMMANDS = sorted({re.split(r"(?:^|  )#", line)[0].strip() for line in SHELL_LINES} - {""})

# Commands of shell blocks that the tests do not run. Their files, options and extras are checked.
NOT_RUN = {
    "git clone": "needs the network",
    "cd mpqueue": "needs the clone",
    "python3 -m pip": "changes the environment of the tests, and needs the network",
    "mpqueue bench": "takes half a minute; tests/commands runs it",
    "MPQUEUE_TRACE=trace.json python train.py": "is a user's program",
    "numactl --cpunodebind=0": "needs a machine with several nodes, and a user's program",
    "taskset -c 0-15": "is a user's program, on a machine with 16 CPUs",
    "mpqueue doctor": "tests/commands runs it",
    "mpqueue state": "needs a state; tests/commands runs it",
    "python3 -c": "needs files; tests/files creates indexes",
    "find ~/.cache/mpqueue": "removes files of the user",
    "mpqueue serve": "serves until it gets a signal; tests/commands runs it",
    "mkdir /srv": "creates a folder on the host",
    "docker run": "needs containers",
    "torchrun": "starts a user's program",
    "scripts/docs": "creates .venv; test_site.py builds the site",
    "scripts/pictures": "writes into the tree; test_pictures.py compares",
    "scripts/demo": "creates .venv, and trains for a minute",
    "scripts/test": "runs these tests",
    "scripts/newcomers": "runs these tests",
    "scripts/lint": "creates .venv; checks.py runs the same",
    "cosmic-ray": "takes an hour, and changes files",
    "cr-report": "reports what cosmic-ray did",
    "scripts/gauntlet": "takes minutes",
    "scripts/trainers": "takes minutes; tests/scripts runs one trainer",
    "scripts/stubs": "writes into the tree",
    "scripts/golden": "writes into the tree; tests/golden/test_released.py reads what it wrote",
    "scripts/release": "tests the wheel for minutes; tests/scripts runs its checks",
    "scripts/soak": "takes minutes; tests/scripts runs it for a moment",
    "python3 scripts/benchmark.py": "takes minutes; tests/scripts runs one workload",
}


def frameworks_of(block):
    names = "accelerate|datasets|jax|keras|lightning|ray|tensorflow|torch|transformers"
    return re.findall(rf"^(?:import|from) ({names})\b", block.text, re.M)


def interpreter_of(block):
    """Return the framework to import before the fork of a block: the one with the slowest import, or an empty string.

    A block that chooses Keras's backend must import Keras itself.
    """
    frameworks = {"keras" if name == "jax" else name for name in frameworks_of(block)}
    if "mpqueue.torch" in block.text or frameworks & {"accelerate", "lightning", "transformers"}:
        frameworks.add("torch")
    if "KERAS_BACKEND" in block.text:
        frameworks -= {"keras"}
    return next((name for name in ("tensorflow", "keras", "torch") if name in frameworks), "")


def case_of(block):
    """Return the parameters of the test of a block."""
    marks = [] if block.page.startswith(FIRST_READ) else pytest.mark.slow
    return pytest.param(interpreter_of(block), block, id=str(block), marks=marks)


@pytest.mark.parametrize(("launcher", "block"), [case_of(block) for block in PYTHON], indirect=["launcher"])
def test_a_python_block_runs_unchanged(launcher, block, tmp_path):
    """It runs in a separate process, and does not print to stderr, except with frameworks, which do."""
    frameworks = frameworks_of(block)
    for name in frameworks:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    try:
        errors = run_example(block.text, tmp_path, launcher)
    except AssertionError as error:
        optional_packages.skip_if_missing(str(error))
        raise
    assert frameworks or errors == ""


def test_every_block_is_python_shell_output_or_a_diff_of_programs():
    assert [str(block) for block in ALL if block.language not in ("python", "sh", "text", "diff")] == []


def test_each_shell_block_is_well_formed():
    for block in ALL:
        if block.language == "sh":
            done = subprocess.run(["sh", "-n"], input=block.text, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, ""), str(block)


def test_each_shell_command_is_run_or_listed_as_not_run():
    assert [command for command in COMMANDS if not command.startswith(tuple(NOT_RUN))] == []


@pytest.mark.parametrize("command", [command for command in COMMANDS if "scripts/" in command])
def test_a_shell_command_names_a_script_and_options_that_exist(command):
    words = shlex.split(command)
    (script,) = [word for word in words if word.startswith("scripts/")]
    text = (ROOT / script).read_text("utf-8")
    parts = (ROOT / "scripts/parts").rglob("*.py")
    text += "".join(part.read_text("utf-8") for part in parts)
    for option in [word for word in words if word.startswith("--")]:
        assert option in text, f"{script} knows no {option}"


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("mpqueue ")])
def test_an_mpqueue_command_has_options_that_its_help_lists(command, capsys):
    _, name, *words = shlex.split(command)
    assert status_at_exit(name, "--help") == 0
    known = capsys.readouterr().out
    assert [word for word in words if word.startswith("--") and word not in known] == []


@pytest.mark.parametrize("command", [command for command in COMMANDS if "pip install" in command])
def test_an_installation_names_extras_that_exist_and_is_quoted_for_zsh(command):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = settings["project"]["optional-dependencies"]
    assert set(re.findall(r"--group (\S+)", command)) <= set(settings["dependency-groups"])
    for found in re.findall(r"\[([\w,-]+)\]", command):
        assert set(found.split(",")) <= set(extras)
    unquoted = re.sub(r"'[^']*'|\"[^\"]*\"", "", command)
    assert not re.search(r"[\[\]*?]", unquoted), "zsh expands unquoted brackets and stars as patterns"


@pytest.mark.parametrize("command", [command for command in COMMANDS if ".whl" in command])
def test_an_installation_names_the_wheel_of_this_version(command):
    assert f"mpqueue-{mpqueue.__version__}-py3-none-any.whl" in command
