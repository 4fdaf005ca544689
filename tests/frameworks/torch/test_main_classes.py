"""Classes of the main script in batches and errors are the caller's own classes."""

import os
import subprocess
import sys

SCRIPT = """
import contextlib
import dataclasses
import enum
import sys
import threading
from typing import NamedTuple
import torch
from torch.utils import data
import mpqueue.torch
FRESH = "spawn", "forkserver"
LOCK = threading.Lock()  # cannot be pickled, and so neither can a copy of a class whose methods use it
class MyError(Exception):
    def describe(self):
        with LOCK:
            return str(self)
class Outer:
    class Error(ValueError):
        pass
class Pair(NamedTuple):
    first: torch.Tensor
    second: int
class Color(enum.Enum):
    RED = 1
@dataclasses.dataclass
class Record:
    color: Color
    values: torch.Tensor
    def locked(self):
        with LOCK:
            return self.values
def collate(samples):
    number = int(samples[0])
    if number == 1:
        raise MyError("one")
    if number == 2:
        raise Outer.Error("two")
    tensor = torch.tensor(samples)
    return Pair(tensor, number) if number == 3 else [Record(Color.RED, tensor), Pair]
class Stream(data.IterableDataset):
    def __iter__(self):
        return iter(range(5))
def check(loader):
    for _ in range(2):
        batches = iter(loader)
        record, kind = next(batches)
        assert type(record) is Record, type(record)
        assert record.color is Color.RED
        assert record.locked().tolist() == [0]
        assert kind is Pair
        for expected in MyError, Outer.Error:
            try:
                next(batches)
            except expected as error:
                assert type(error) is expected
            else:
                raise AssertionError(expected)
        batch = next(batches)
        assert isinstance(batch, Pair), type(batch)
        assert batch.first.tolist() == [3]
        assert len(list(batches)) == 1
class Raises:
    own = LOCK  # so that the workers are forked
    def __len__(self):
        return 5
    def __getitem__(self, index):
        raise MyError(index)
def check_loader():
    with mpqueue.Loader(Raises(), workers=1, start_method="fork") as loader:
        batches = iter(loader)
        for _ in range(2):
            with contextlib.suppress(MyError):
                next(batches)
                raise AssertionError
def check_all(contexts):
    for context in contexts:
        options = {"batch_size": 1, "num_workers": 1, "collate_fn": collate}
        options |= {} if context == "default" else {"multiprocessing_context": context}
        if context == "fork":
            check_loader()
        check(mpqueue.torch.DataLoader(range(5), persistent_workers=context in FRESH, **options))
        if context in FRESH:
            continue  # each worker imports torch
        check(mpqueue.torch.DataLoader(Stream(), persistent_workers=True, **options))
        with mpqueue.torch.install():
            check(data.DataLoader(range(5), persistent_workers=True, **options))
if __name__ == "__main__":
    check_all(sys.argv[1:])
"""
# Workers of "spawn" and "forkserver" receive the source as a pickle, which cannot hold a lock.
PICKLABLE = SCRIPT.replace("threading.Lock()", "contextlib.nullcontext()")


def test_workers_of_a_script_return_objects_of_its_classes(tmp_path, interpreter):
    (tmp_path / "program.py").write_text(SCRIPT)
    command = [tmp_path / "program.py", "default", "fork"]
    status, _, errors = interpreter.run(command, tmp_path, os.environ, timeout=300)
    assert status == 0, errors


def test_workers_of_a_module_return_objects_of_its_classes(tmp_path):
    (tmp_path / "program.py").write_text(SCRIPT)
    command = [sys.executable, "-W", "ignore", "-m", "program", "default"]
    subprocess.run(command, cwd=tmp_path, timeout=300, check=True)


def test_workers_of_an_argument_of_the_interpreter_return_objects_of_its_classes(interpreter):
    assert interpreter.start(SCRIPT, ["-c", "fork"], {number: number for number in range(3)}).wait(300) == 0


def test_fresh_workers_return_objects_of_the_callers_classes(tmp_path, interpreter):
    (tmp_path / "program.py").write_text(PICKLABLE)
    command = [tmp_path / "program.py", "spawn", "forkserver"]
    status, _, errors = interpreter.run(command, tmp_path, os.environ, timeout=300)
    assert status == 0, errors
