"""Tests of packages that are not installed are skipped, and only these."""

import os
import re
import subprocess
import sys

from helpers.package_structure import ROOT

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
SKIPPED = {
    "module": "import torch.utils.data\ndef test(): pass",
    "fixture": "import pytest\n@pytest.fixture\ndef it():\n    import torch\ndef test(it): pass",
    "mpqueue": "import mpqueue\ndef test(): mpqueue.torch.DataLoader",
}
FAILING = {
    "unknown_in_module": "import not_there\ndef test(): pass",
    "unknown_in_test": "def test():\n    import not_there",
    "broken": "def test():\n    raise ModuleNotFoundError('broken', name='hypothesis.inside')",
    "another_error": "def test():\n    try:\n        import torch\n    except ImportError as e:\n        raise ValueError from e",
}


def test_only_tests_of_packages_that_are_not_installed_are_skipped(tmp_path):
    (tmp_path / "hidden.py").write_text(HIDDEN)
    for name, code in (SKIPPED | FAILING).items():
        (tmp_path / f"test_{name}.py").write_text(code)
    plugins = (word for name in ("hidden", "helpers.optional_packages", "no:cacheprovider") for word in ("-p", name))
    options = ["-q", "-rsfE", "--no-fold-skipped", *plugins]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "tests"), str(ROOT)])}
    command = [sys.executable, "-m", "pytest", "--continue-on-collection-errors", *options, "--rootdir", tmp_path]
    done = subprocess.run([*command, tmp_path], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=100)
    found = re.findall(r"^(SKIPPED|FAILED|ERROR) test_(\w+)\.py\S*(?: - (.+))?$", done.stdout, re.MULTILINE)
    outcomes = {name: reason if outcome == "SKIPPED" else outcome for outcome, name, reason in found}
    expected = dict.fromkeys(SKIPPED, "Skipped: torch is not installed") | dict.fromkeys(FAILING, "FAILED")
    assert outcomes == expected | {"unknown_in_module": "ERROR"}
