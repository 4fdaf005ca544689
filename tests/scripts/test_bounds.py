"""A run of the tests that hangs outside a test prints its stack and fails."""

from pathlib import Path

import pytest
from helpers.deadlock import DEADLOCK_S
from helpers.forked_programs import Interpreter

TESTS = Path(__file__).resolve().parents[1]
# Limits are recorded, and expire at once where a hang is simulated.
CONFTEST = f"""
import faulthandler, threading
from helpers.time_limits import Bounds

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
HANGING_EXIT = """
def hang_at_the_end():
    threading.main_thread().join()
    hang()

def test_it():
    assert not limits  # a test has only its own limit
    threading.Thread(target=hang_at_the_end).start()
"""
PROGRAM = "import sys, pytest; sys.exit(pytest.main(['-q', '-p', 'pytest_timeout', '--timeout', '60', '.']))"


@pytest.mark.parametrize("code", ["hang()", HANGING_EXIT], ids=["a collection", "an exit"])
def test_a_run_that_hangs_prints_its_stack_and_fails(code, tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(f"import threading\nfrom conftest import hang, limits\n{code}")
    (tmp_path / "program.py").write_text(PROGRAM)
    environ = {"PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with Interpreter("pytest", "pytest_timeout") as interpreter:
        status, _, errors = interpreter.run([tmp_path / "program.py"], tmp_path, environ, 4 * DEADLOCK_S)
    assert status == 1
    assert "most recent call first" in errors
    assert "in hang" in errors
