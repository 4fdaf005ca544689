"""The stubs of `mpqueue.compat.v1`, which ``scripts/stubs`` generates."""

import pytest
from helpers.script_modules import script


def contents(folder):
    return {str(path.relative_to(folder)): path.read_text("utf-8") for path in folder.rglob("*.pyi")}


def test_stubs_are_up_to_date(tmp_path):
    """If this fails, run scripts/stubs and commit the result."""
    pytest.importorskip("ruff")
    command = script("parts.stubs.command")
    command.print_stubs(tmp_path)
    assert contents(command.FOLDER) == contents(tmp_path)
