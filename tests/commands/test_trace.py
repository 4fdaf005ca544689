"""``mpqueue trace``: reading complete and incomplete files, and the summary."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import mpqueue
from mpqueue.__main__ import main
from mpqueue.commands.trace_read import NoTrace, read
from mpqueue.commands.trace_summary import lines, summary_of

DEADLOCK_S = 60


def named(row, name):
    return {"ph": "M", "pid": 1, "tid": row, "name": "thread_name", "args": {"name": name}}


def span(row, name, start_ms, ms, **arguments):
    return {"ph": "X", "pid": 1, "tid": row, "name": name, "ts": 1e6 + 1000 * start_ms, "dur": 1000 * ms, "args": arguments}  # fmt: skip


def event(kind, row, name, at_ms, **others):
    return {"ph": kind, "pid": 1, "tid": row, "name": name, "ts": 1e6 + 1000 * at_ms, **others}


EVENTS = [
    named(1, "consumer"),
    named(10, "worker 0"),
    named(19, "worker 10"),
    named(12, "worker 2"),
    event("i", 1, "epoch 0 begins", 0),
    span(10, "compute 0", 0, 40, epoch=0, index=0),
    span(10, "copy 0", 40, 10),
    event("s", 10, "batch", 45, id=7),
    span(12, "compute 1", 0, 80, epoch=0, index=1),
    span(19, "compute 2", 0, 20, epoch=0, index=2),
    event("f", 1, "batch", 51, id=7, bp="e"),
    span(1, "wait", 0, 50),
    event("b", 1, "held", 50, cat="held", id="held 0"),
    event("b", 1, "held", 60, cat="held", id="held 1"),
    event("e", 1, "held", 90, cat="held", id="held 0"),
    event("e", 1, "held", 100, cat="held", id="held 1"),
    event("i", 12, "worker 2 died", 70),
]


@pytest.fixture
def file(tmp_path):
    """A function that writes events, or a string, to a file."""

    def write(content):
        path = tmp_path / "run.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


@pytest.mark.parametrize("content", [EVENTS, {"traceEvents": EVENTS, "displayTimeUnit": "ms"}], ids=["list", "object"])
def test_spans_marks_flows_and_rows_are_read(file, content):
    trace = read(file(content))
    assert not trace.is_broken
    assert trace.num_events == len(EVENTS)
    assert [trace.name(row) for row in trace.rows()] == ["consumer", "worker 0", "worker 2", "worker 10", "held"]
    assert [(span.name, span.start_s, span.duration_s) for span in trace.spans if span.row == (1, 10)] == [
        ("compute", 0.0, pytest.approx(0.04)),
        ("copy", pytest.approx(0.04), pytest.approx(0.01)),
    ]
    assert [(mark.name, round(mark.at_s, 6)) for mark in trace.marks] == [
        ("epoch 0 begins", 0.0),
        ("worker 2 died", 0.07),
    ]
    (flow,) = trace.flows
    assert (flow.start_row, flow.end_row) == ((1, 10), (1, 1))
    assert flow.end_s - flow.start_s == pytest.approx(0.006)
    assert trace.duration_s == pytest.approx(0.1)


def test_spans_of_a_beginning_and_an_end_may_nest_on_a_row(file):
    events = [event("B", 1, "outer", 0), event("B", 1, "inner", 1), event("E", 1, "", 2), event("E", 1, "", 5), event("E", 1, "", 6)]  # fmt: skip
    trace = read(file(events))
    assert [(span.name, round(span.duration_s, 6)) for span in trace.spans] == [("outer", 0.005), ("inner", 0.001)]


@pytest.mark.parametrize(
    "cut", [lambda text: text[:-2], lambda text: text[:-30], lambda text: text.rstrip("]\n") + ",", lambda text: text[: len(text) // 2]]
)  # fmt: skip
def test_complete_part_of_an_incomplete_file_is_read(file, cut):
    text = "[\n" + ",\n".join(map(json.dumps, EVENTS)) + "\n]\n"
    trace = read(file(cut(text)))
    assert trace.is_broken
    assert trace.num_events >= len(EVENTS) // 2 - 1
    assert trace.spans


def test_incomplete_object_is_read(file):
    trace = read(file(json.dumps({"traceEvents": EVENTS})[:-20]))
    assert trace.is_broken
    assert trace.num_events == len(EVENTS) - 1


@pytest.mark.parametrize("text", ["", "hello", "7", '{"a": 1}', '"[]"', "}}}}"])
def test_file_that_is_not_a_trace_is_rejected(file, text):
    with pytest.raises(NoTrace, match="expected a JSON list"):
        read(file(text))


def test_odd_events_are_left_out(file):
    odd = [
        None,
        7,
        {},
        {"ph": 3},
        {"ph": "X"},
        {"ph": "X", "ts": "soon"},
        {"ph": "e", "ts": 1, "id": 3},
        {"ph": "f", "ts": 1, "id": 9},
    ]
    trace = read(file([*odd, *EVENTS]))
    assert len(trace.spans) == 7


def test_the_summary_has_shares_by_row_and_times_by_kind(file):
    found = summary_of(read(file(EVENTS)))
    assert found.shares["worker 0"] == {"compute": pytest.approx(0.4), "copy": pytest.approx(0.1)}
    assert found.shares["consumer"] == {"wait": pytest.approx(0.5)}
    assert found.shares["held"] == {"held": pytest.approx(0.8)}
    compute = next(kind for kind in found.kinds if kind.name == "compute")
    assert (compute.count, compute.p50_s, compute.p99_s) == (3, pytest.approx(0.04), pytest.approx(0.08))
    assert compute.longest["row"] == "worker 2"
    assert compute.longest["arguments"] == {"epoch": 0, "index": 1}
    assert [mark.name for mark in found.deaths] == ["worker 2 died"]
    assert found.marks == {"epoch begins": 1, "worker died": 1}
    assert found.flow_p50_s == pytest.approx(0.006)


def test_text_contains_the_whole_summary(file):
    output = lines("run.json", summary_of(read(file(EVENTS))))
    assert output[0] == "run.json: 0.100 s, 5 rows, 17 events"
    assert [line.split()[:2] for line in output if line.startswith("worker")] == [["worker", "0"], ["worker", "2"], ["worker", "10"]]  # fmt: skip
    assert "  worker 2 died at 0.070 s" in output
    assert any(
        line.startswith("compute") and line.endswith("worker 2, at 0.000 s (epoch 0, index 1)") for line in output
    )


def test_empty_trace_is_reported(file):
    assert lines("run.json", summary_of(read(file([])))) == [
        "run.json: 0.000 s, 0 rows, 0 events",
        "the trace has no spans",
    ]


# A loader's trace


class KillsItsWorkerOnce:
    """Ends the process that computes item 5, the first time only."""

    def __init__(self, flag):
        self._flag = flag

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 5 and not os.path.exists(self._flag):
            with open(self._flag, "w"):
                os.kill(os.getpid(), signal.SIGKILL)
        return np.full(4, index)


def test_timeline_of_a_loader_has_epochs_workers_and_a_crash(tmp_path):
    path = str(tmp_path / "run.json")
    with mpqueue.Loader(KillsItsWorkerOnce(str(tmp_path / "flag")), workers=2, trace=path) as loader:
        for _ in range(2):
            assert len(list(loader)) == 8
    trace = read(path)
    assert not trace.is_broken
    found = summary_of(trace)
    assert {"consumer", "worker 0", "worker 1"} <= set(found.shares)
    assert {"compute", "copy", "take"} <= {kind.name for kind in found.kinds}
    assert found.marks["epoch begins"] == 2
    assert [mark.name.startswith("worker ") for mark in found.deaths] == [True]
    assert found.flow_p50_s is not None
    assert main(["trace", path]) == 1


def test_timeline_of_a_killed_program_is_read(tmp_path):
    path = str(tmp_path / "run.json")
    code = f"""
        import os, signal, mpqueue
        loader = mpqueue.Loader([7] * 50, workers=1, trace={path!r})
        for _ in range(3):
            list(loader)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=DEADLOCK_S, check=False)
    assert done.returncode == -signal.SIGKILL
    trace = read(path)
    assert trace.is_broken
    assert "epoch 0 begins" in [mark.name for mark in trace.marks]


# The mpqueue command


@pytest.mark.parametrize(
    ("events", "status"), [(EVENTS[:-1], 0), (EVENTS, 1)], ids=["nothing wrong", "a death"]
)  # fmt: skip
def test_exit_status_is_1_after_worker_crashes(file, capsys, events, status):
    assert main(["trace", file(events)]) == status
    assert "share of the time in" in capsys.readouterr().out


def test_incomplete_file_exits_with_1(file, capsys):
    assert main(["trace", file(json.dumps(EVENTS[:-1])[:-1])]) == 1
    assert "incomplete: the program was killed, or is still running" in capsys.readouterr().out


def trace(*arguments):
    """Run in a separate process."""
    return subprocess.run(
        [sys.executable, "-m", "mpqueue", "trace", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLOCK_S,
        check=False,
    )


def test_json_contains_the_whole_summary(file):
    done = trace(file(EVENTS[:-1]), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    output = json.loads(done.stdout)
    assert output["shares"]["worker 2"] == {"compute": pytest.approx(0.8)}
    assert {"duration_s", "kinds", "marks", "deaths", "is_broken"} <= set(output)


def test_json_names_the_fields_of_a_crash(file):
    output = json.loads(trace(file(EVENTS), "--json").stdout)
    (death,) = output["deaths"]
    assert (death["name"], round(death["at_s"], 3)) == ("worker 2 died", 0.07)


def test_part_of_a_trace_is_summarized_alone(file, capsys):
    """Spans are cut at its ends, and events before and after it are left out."""
    events = [span(10, "compute 0", 0, 10), span(10, "copy 0", 20, 10), span(10, "compute 1", 40, 60)]
    events += [event("i", 10, "epoch 0 begins", 5), event("i", 10, "worker 2 died", 70)]
    path = str(file(events))
    assert main(["trace", path, "--start", "0.025", "--end", "0.065", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    (shares,) = output["shares"].values()
    assert shares == {"copy": pytest.approx(5 / 40), "compute": pytest.approx(25 / 40)}
    assert [output["start_s"], output["duration_s"]] == pytest.approx([0.025, 0.040])
    assert (output["marks"], output["deaths"]) == ({}, [])
    assert main(["trace", path, "--start", "0.025", "--end", "9"]) == 1
    first, *_ = capsys.readouterr().out.splitlines()
    assert "0.075 s from 0.025 s on" in first


@pytest.mark.parametrize("part", [("--start", "5"), ("--start", "-1"), ("--start", "5", "--end", "2")], ids=str)
def test_start_must_be_before_end(file, capsys, part):
    with pytest.raises(SystemExit) as ended:
        main(["trace", str(file(EVENTS)), *part])
    assert ended.value.code == 2
    assert "--start must be before --end" in capsys.readouterr().err


def test_narrow_terminal_gets_the_columns_that_fit(file):
    found = summary_of(read(file(EVENTS)))
    whole, narrow = lines("run.json", found), lines("run.json", found, width=40)
    tables = narrow[1 : narrow.index(next(line for line in narrow if line.startswith("half of")))]
    assert len(tables) > 8
    assert all(len(line) <= 40 for line in tables)
    assert len(whole) == len(narrow)
    assert all(wide.startswith(line) for wide, line in zip(whole, narrow, strict=True))
    assert lines("run.json", found, width=1)[2].split("  ") == ["share of the time in", "compute"]


@pytest.mark.parametrize(
    ("content", "words"), [("hello", "is not a trace: expected a JSON list"), (None, "No such file")]
)
def test_invalid_file_exits_with_2(file, tmp_path, capsys, content, words):
    path = str(tmp_path / "missing.json") if content is None else file(content)
    with pytest.raises(SystemExit) as ended:
        main(["trace", path])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
