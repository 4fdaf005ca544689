"""``scripts/slow``: its programs run, and docs/operations/slow.md has their output."""

import subprocess
import sys

import pytest
from helpers.scripts import script

printed = script("parts.slow.printed")
PAGE = script("parts.slow.command").PAGE.read_text("utf-8")


@pytest.mark.parametrize("words", [["slow_decode.py"], ["slow_step.py"], ["memory_bound.py", "Floats"]], ids=" ".join)
def test_a_program_trains_and_prints_its_statistics(words):
    command = [sys.executable, *words, "--workers", "1", "--seconds", "0.1"]
    done = subprocess.run(
        command, cwd=printed.PROGRAMS, capture_output=True, text=True, timeout=280, check=False
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert " batches/s (" in done.stdout


def test_the_page_has_the_output_of_each_program_and_command():
    blocks = printed.commands_of(PAGE)
    commands = " ".join(blocks)
    names = [path.name for path in printed.PROGRAMS.glob("*.py") if path.name != "training.py"]
    assert [name for name in (*names, "mpqueue bench") if name not in commands] == []
    for block in blocks:
        lines = PAGE.partition(f"<!-- printed by: {block}")[2].splitlines()
        assert lines[1:3] == ["```text", f"$ {block}"]
        assert lines[3] != "```"


def test_a_command_that_fails_is_an_error():
    with pytest.raises(subprocess.CalledProcessError):
        printed.output_of("mpqueue no-such-command")
