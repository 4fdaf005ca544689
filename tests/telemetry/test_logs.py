"""What is told in the logger ``mpqueue``, and how much of it is seen."""

import logging
import os
import subprocess
import sys
import textwrap

import pytest
from helpers.faults import Numbers

from mpqueue import Loader
from mpqueue.system import log

PROGRAM = """
import numpy as np, mpqueue

class Source:
    def __len__(self):
        return 4
    def __getitem__(self, index):
        return np.full(10, index)

if __name__ == "__main__":
    with mpqueue.Loader(Source(), workers=1) as loader:
        for _ in loader:
            pass
"""


def said(tmp_path, level):
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAM))
    environment = {key: value for key, value in os.environ.items() if key != "MPQUEUE_LOG"}
    if level is not None:
        environment["MPQUEUE_LOG"] = level
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_without_the_variable_a_run_without_faults_says_nothing(tmp_path):
    assert said(tmp_path, None) == ""


def test_debug_shows_starts_ends_and_the_ring(tmp_path):
    lines = said(tmp_path, "debug")
    for text in (
        "worker 0 was asked for",
        "1 workers (process) run",
        "the workers run: <ring of",
        "the workers have ended",
    ):
        assert text in lines
    assert "mpqueue[" in lines
    assert "free" in lines


def test_warning_shows_nothing_of_that(tmp_path):
    assert said(tmp_path, "WARNING") == ""


def test_a_level_that_is_none_is_told(tmp_path):
    assert "MPQUEUE_LOG=loud has no effect: the levels are debug, info, warning, error" in said(tmp_path, "loud")


def test_a_program_that_configures_logging_sees_debug_messages_too(caplog):
    with caplog.at_level(logging.DEBUG, "mpqueue"), Loader(Numbers(3), workers=1) as loader:
        list(loader)
    assert "the workers have ended: " in caplog.text


def test_the_text_of_a_debug_message_is_not_made_for_nobody(monkeypatch):
    monkeypatch.setattr("mpqueue.memory.ring.Ring.__repr__", lambda _: pytest.fail("nobody reads this"))
    with Loader(Numbers(3), workers=1) as loader:
        list(loader)
    assert not log.debugs()


def test_copies_are_told_once_with_a_word_on_where_to_read_on(caplog):
    with caplog.at_level(logging.WARNING, "mpqueue"), Loader(Numbers(30), workers=1) as loader:
        list(loader)
        list(loader)
    (told,) = caplog.messages
    assert "private copies" in told
    assert told.endswith("[see docs/seeing.md, Memory]")
