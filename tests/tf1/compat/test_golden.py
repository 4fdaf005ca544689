"""The golden cases of the eager toolbox, run through nodes: they were made with a graph, and hold there without exception."""

import json
from pathlib import Path

import pytest
from tf1.compat.deferred import functions, queue_runner, queues, readers

from mpqueue.tf1.compat.train import processes, runners

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
DECODERS = ("decode_csv", "decode_json_example", "decode_raw", "parse_example")
QUEUES = ("queue_runner", "queue_runner_random", "queues", "queues_random")
PIPELINES = ("batches", "pipelines")
# Workers enqueue in the same way for any order of the examples that the queue returns.
OF_THE_QUEUE = ("shuffle_batch", "shuffle_batch_join")


def cases(*topics):
    for topic in topics:
        interpreter = "decoders" if topic in DECODERS else topic.removesuffix("_random")
        for case in json.loads((GOLDEN / f"{topic}.json").read_text("utf-8"))["cases"]:
            if interpreter != "queue_runner" or "runner" in case:  # the others are about the eager constructor
                yield pytest.param(interpreter, case, id=case["id"].replace("/", "-"))


@pytest.fixture
def play(session, monkeypatch):
    """Return a function that runs a case by an interpreter."""
    monkeypatch.chdir(GOLDEN)
    scripts = {"queue_runner": queue_runner.run, "queues": queues.run, "readers": readers.run}
    return lambda name, case: (scripts.get(name) or getattr(functions, f"run_{name}"))(case, session)


@pytest.mark.sample(120)
@pytest.mark.parametrize(
    ("interpreter", "case"),
    list(cases(*DECODERS, "files", "placeholders", "readers", "producers", *PIPELINES, *QUEUES)),
)
def test_a_case_holds_in_a_graph(interpreter, case, play):
    play(interpreter, case)


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("interpreter", "case"), [one for one in cases(*PIPELINES) if one.values[1]["op"] not in OF_THE_QUEUE]
)
def test_a_case_holds_with_worker_processes(interpreter, case, play, monkeypatch):
    monkeypatch.setattr(processes, "_choice", [True])
    play(interpreter, case)


@pytest.mark.parametrize(("interpreter", "case"), list(cases("pipelines")))  # other topics do not process records
def test_a_case_holds_record_by_record(interpreter, case, play, monkeypatch):
    monkeypatch.setattr(runners, "record_plan", lambda _plan: None)
    play(interpreter, case)
