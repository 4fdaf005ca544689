"""The helper of the tests of interrupts: it counts places of the package, and no others."""

import importlib.util
import shutil

import pytest
from helpers import strikes

from mpqueue.system.cpus import num_cpus


@pytest.fixture
def elsewhere(tmp_path):
    """The helper in a folder with the package's name, like a clone of the repository."""
    (tmp_path / "mpqueue").mkdir()
    path = shutil.copy(strikes.__file__, tmp_path / "mpqueue")
    spec = importlib.util.spec_from_file_location("strikes_elsewhere", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["Strike", "StrikeBeforeLine"])
def test_lines_of_helper_and_tests_are_not_counted(elsewhere, name):
    with getattr(elsewhere, name)(1) as strike:
        shutil.which("sh")
        elsewhere.in_finalizer(None)
    assert strike.left == 1


@pytest.mark.parametrize("kind", [strikes.Strike, strikes.StrikeBeforeLine])
def test_helper_interrupts_once_in_package(kind):
    with kind(1) as strike, pytest.raises(strikes.Struck):
        num_cpus()
    assert (strike.left, num_cpus() > 0) == (0, True)
