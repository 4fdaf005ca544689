"""A run of the tests ends, also where what hangs is none of them."""

from pathlib import Path

import pytest
from helpers.deadlock import DEADLOCK_S
from helpers.forked import Interpreter

TESTS = Path(__file__).resolve().parents[1]
# Limits are noted, and come at once where something hangs.
CONFTEST = f"""
import faulthandler, threading
from helpers.bounds import Bounds

later, limits = faulthandler.dump_traceback_later, []
faulthandler.dump_traceback_later = lambda limit_s, **options: limits.append(options)
faulthandler.cancel_dump_traceback_later = limits.clear

def hang():
    if limits:
        later(0.001, **limits[-1])
    threading.Event().wait({DEADLOCK_S})

def pytest_configure(config):
    config.pluginmanager.register(Bounds(600))
"""
HANGING = {
    "a collection": "hang()",
    "a teardown behind a failure": """
@pytest.fixture
def hangs():
    yield
    hang()

def test_it(hangs):
    assert False
""",
    "an exit": """
def hang_at_the_end():
    threading.main_thread().join()
    hang()

def test_it():
    threading.Thread(target=hang_at_the_end).start()
""",
}
PROGRAM = "import sys, pytest; sys.exit(pytest.main(['-q', '-p', 'pytest_timeout', '--timeout', '60', '.']))"


@pytest.fixture(scope="module")
def interpreter():
    with Interpreter("pytest", "pytest_timeout") as started:
        yield started


@pytest.fixture
def run(tmp_path, interpreter):
    """What tests write to stderr, and their exit status."""

    def run_tests(code):
        (tmp_path / "conftest.py").write_text(CONFTEST)
        (tmp_path / "test_it.py").write_text(f"import threading, pytest\nfrom conftest import hang, limits\n{code}")
        (tmp_path / "program.py").write_text(PROGRAM)
        environ = {"PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        status, _, errors = interpreter.run([tmp_path / "program.py"], tmp_path, environ, 4 * DEADLOCK_S)
        return status, errors

    return run_tests


@pytest.mark.parametrize("what", HANGING)
def test_it_says_where_it_stands_and_fails(run, what):
    status, errors = run(HANGING[what])
    assert status == 1
    assert "most recent call first" in errors
    assert "in hang" in errors


def test_a_test_has_no_limit_but_its_own(run):
    assert run("def test_it():\n    assert not limits") == (0, "")
