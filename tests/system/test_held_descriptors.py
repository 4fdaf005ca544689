"""Descriptors that are closed with their last reference, by C code, which no signal handler can interrupt."""

import contextlib
import os
import warnings

import pytest
from helpers.finalizers import calls_of_python_in
from helpers.injected_exceptions import Struck, each_strike
from helpers.table_files import answer_of_child

from mpqueue.system.descriptors.held_descriptors import HeldDescriptor


def num_open():
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def path(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    return str(tmp_path / "a")


def test_last_reference_closes_the_descriptor_without_python_code_or_warning(path):
    held = [HeldDescriptor(os.open, path, os.O_RDONLY)]
    fd = held[0].fd
    assert os.pread(fd, 7, 0) == b"content"
    with warnings.catch_warnings(action="error"):
        assert calls_of_python_in(held.clear) == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_descriptor_closed_early_is_not_closed_again(path):
    held = HeldDescriptor(os.open, path, os.O_RDONLY)
    held.close()
    held.close()
    other = os.open(path, os.O_RDONLY)
    assert other == held.fd
    del held
    os.fstat(other)
    os.close(other)


def test_error_of_the_function_is_raised(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        HeldDescriptor(os.open, str(tmp_path / "absent"), os.O_RDONLY)


def test_interrupt_while_a_descriptor_is_opened_does_not_leak_it(path):
    before = num_open()
    for _, strike in each_strike(least=5):
        with contextlib.suppress(Struck), strike:
            HeldDescriptor(os.open, path, os.O_RDONLY)
        assert num_open() == before


def test_child_keeps_a_number_that_it_has_reused(path):
    held = [HeldDescriptor(os.open, path, os.O_RDONLY)]

    def reuse():
        fd = held[0].fd
        os.dup2(2, fd)
        held.clear()
        return os.fstat(fd).st_ino == os.fstat(2).st_ino

    assert answer_of_child(reuse) == "True"
    assert os.pread(held[0].fd, 7, 0) == b"content"
