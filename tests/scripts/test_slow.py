"""``scripts/slow``: its programs run, and docs/slow.md has what its commands print."""

import shlex
import subprocess
import sys

import pytest
from helpers.scripts import script

from mpqueue.__main__ import COMMANDS

printed = script("parts.slow.printed")
PAGE = script("parts.slow.command").PAGE.read_text("utf-8")
BLOCKS = printed.commands_of(PAGE)
DEADLOCK_S = 280


@pytest.mark.parametrize(
    "words", [["slow_decode.py"], ["slow_step.py"], *(["memory_bound.py", name] for name in ("Floats", "InPlace", "Bytes"))], ids=" ".join
)  # fmt: skip
def test_a_program_trains_and_tells_its_statistics(words):
    done = subprocess.run(
        [sys.executable, *words, "--workers", "1", "--seconds", "0.1"],
        cwd=printed.PROGRAMS,
        capture_output=True,
        text=True,
        timeout=DEADLOCK_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert " batches/s (" in done.stdout


def test_the_page_has_blocks_of_every_program_and_of_the_tools():
    told = " ".join(f"{block.command} {block.beside}" for block in BLOCKS)
    names = [path.name for path in printed.PROGRAMS.glob("*.py")]
    assert len(names) == 3
    assert [name for name in (*names, "mpqueue bench", "mpqueue top", "mpqueue trace") if name not in told] == []


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.command)
def test_a_block_of_the_page_begins_with_its_command_and_has_its_output(block):
    _, _, rest = PAGE.partition(f"<!-- printed by: {block.command}")
    lines = rest.splitlines()
    assert lines[1:3] == ["```text", f"$ {block.command}"]
    assert lines[3] != "```"


@pytest.mark.parametrize("command", [text for block in BLOCKS for text in block if text])
def test_a_command_of_the_page_names_what_is_there(command):
    first, second, *_ = shlex.split(command)
    if first == "python":
        assert (printed.PROGRAMS / second).is_file()
    else:
        assert second in COMMANDS


def test_a_page_is_printed_anew_block_by_block():
    page = "before\n<!-- printed by: python slow_step.py --seconds 0.1 --workers 0 -->\n```text\nearlier\n```\nafter\n"
    anew = printed.printed_anew(page)
    assert anew.startswith(
        "before\n<!-- printed by: python slow_step.py --seconds 0.1 --workers 0 -->\n```text\n$ python"
    )
    assert anew.endswith("\n```\nafter\n")
    assert " batches/s for " in anew
    assert "earlier" not in anew


def test_a_program_runs_beside_a_command_until_that_has_ended(monkeypatch, servers_home):
    monkeypatch.setattr(printed, "_BEGIN_S", 0.0)
    told = printed.output_of("mpqueue top --count 1 --interval 0.01", "python slow_step.py --seconds 600")
    assert told.startswith(("nothing of this user shows itself", " pid", "pid"))


def test_a_command_that_fails_is_no_output():
    with pytest.raises(subprocess.CalledProcessError):
        printed.output_of("mpqueue no-such-command")
