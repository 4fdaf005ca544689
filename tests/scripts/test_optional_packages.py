"""Tests of packages that are not installed are skipped, and nothing else is."""

import os
import re
import subprocess
import sys

import pytest
from helpers.structure import ROOT

HIDDEN = """
import importlib.util, sys
real = importlib.util.find_spec
is_hidden = lambda name: name.partition(".")[0] in ("torch", "torchdata")
importlib.util.find_spec = lambda name, *rest: None if is_hidden(name) else real(name, *rest)
class Finder:
    def find_spec(self, name, *_):
        if is_hidden(name):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Finder())
"""
MODULES = {
    "module": "import torch.utils.data\ndef test(): pass",
    "test": "def test():\n    from torch import nn",
    "fixture": "import pytest\n@pytest.fixture\ndef it():\n    import torch\ndef test(it): pass",
    "mpqueue": "import mpqueue\ndef test(): mpqueue.torch.DataLoader",
    "unknown_in_module": "import not_there\ndef test(): pass",
    "unknown_in_test": "def test():\n    import not_there",
    "broken": "def test():\n    raise ModuleNotFoundError('broken', name='hypothesis.inside')",
    "another_error": "def test():\n    try:\n        import torch\n    except ImportError as e:\n        raise ValueError from e",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Run the modules with the plugin, as if `torch` and `torchdata` were not installed; return their outcomes."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "hidden.py").write_text(HIDDEN)
    for name, code in MODULES.items():
        (folder / f"test_{name}.py").write_text(code)
    options = ["-q", "-rsfE", "--no-fold-skipped", "-p", "hidden", "-p", "helpers.optional", "-p", "no:cacheprovider"]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "tests"), str(ROOT)])}
    command = [sys.executable, "-m", "pytest", "--continue-on-collection-errors", *options, "--rootdir", folder, folder]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=100)
    found = re.findall(r"^(SKIPPED|FAILED|ERROR) test_(\w+)\.py\S*(?: - (.+))?$", done.stdout, re.MULTILINE)
    assert len(found) == len(MODULES), done.stdout
    return {name: reason if outcome == "SKIPPED" else outcome for outcome, name, reason in found}


@pytest.mark.parametrize("place", ["module", "test", "fixture", "mpqueue"])
def test_what_imports_a_package_that_is_not_installed_is_skipped(outcomes, place):
    assert outcomes[place] == "Skipped: torch is not installed"


def test_a_module_that_is_not_in_the_list_is_an_error(outcomes):
    assert (outcomes["unknown_in_module"], outcomes["unknown_in_test"]) == ("ERROR", "FAILED")


def test_an_installed_package_that_cannot_be_imported_is_an_error(outcomes):
    assert outcomes["broken"] == "FAILED"


def test_another_error_that_a_missing_package_causes_is_an_error(outcomes):
    assert outcomes["another_error"] == "FAILED"
