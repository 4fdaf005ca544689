"""Scripts print their options without any installed package, and leave nothing behind."""

import os
import shutil
import subprocess
import sys

import pytest
from helpers.script_modules import SCRIPTS


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        (["sh", "scripts/demo", "--help"], 0, "--workers N|--epochs N|--seed N|--keras|--service|--ray"),
        ([sys.executable, "-S", "-B", "scripts/benchmark.py", "--help"], 0, "--quick|--only|--workloads|--json"),
        (["scripts/docs", "--help"], 0, "Builds the documentation in build/docs|--links"),
        (["scripts/docs", "--no-such-option"], 1, "Builds the documentation in build/docs|--links"),
    ],
)
def test_help_installs_nothing_and_needs_no_package(command, status, words, tmp_path):
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (status, "")
    assert [word for word in words.split("|") if word not in done.stdout] == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["scripts"]
