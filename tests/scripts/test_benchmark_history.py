"""The benchmark within its time, and the history of its ratios."""

import argparse
import dataclasses
import json

import pytest
from helpers.scripts import script

budgets = script("parts.benchmark.budget")
command = script("parts.benchmark.command")
history = script("parts.benchmark.history")
joining = script("parts.benchmark.joining")
measuring = script("parts.benchmark.measure")
report = script("parts.benchmark.report")
rounds = script("parts.benchmark.rounds")
starts = script("parts.benchmark.starts")
is_wanted = script("parts.benchmark.wanted").is_wanted

MACHINE = "mpqueue 0.1.0, Python 3.11.7, NumPy 2.4.6, x86_64 Linux with 2 CPUs and 24 GiB"


def run_of(imap=50.0, loader_ms=200.0, commit="1234567", machine=MACHINE):
    """What ``--json`` writes of two rounds, of which one peer was only in the first."""
    results = script("parts.benchmark.results").Results(
        {("tiny", "mpqueue"): [300.0, 400.0], ("tiny", "imap"): [imap, imap], ("decode", "mpqueue"): [8.0, 9.0],
         ("decode", "spdl"): [10.0]},
        {},
        starts={starts.NUMPY: [100.0, 150.0], starts.LOADER: [loader_ms, 1.5 * loader_ms]},
    )  # fmt: skip
    return json.loads(report.as_json(results)) | {"commit": commit, "date": "2026-12-01", "machine": machine}


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A history with no row."""
    monkeypatch.setattr(history, "DATA", tmp_path / "history.json")
    monkeypatch.setattr(history, "PAGE", tmp_path / "history.md")
    history.DATA.write_text("[]")
    history.PAGE.write_text(f"# Ratios\n\n{history._MARK}| old |\n\nText.\n")


def test_a_run_becomes_a_row_of_the_data_and_of_the_page(kept):
    assert history.record(run_of()) == []
    row = {"date": "2026-12-01", "commit": "1234567", "machine": "x86_64 Linux, 2 CPUs", "rounds": 2}
    ratios = {"tiny: imap": 7.0, "decode: spdl": 0.8, "import of NumPy: import of Loader": 0.5}
    assert history.load() == [row | {"ratios": ratios}]
    head, rule, line, *after = history.PAGE.read_text().partition(history._MARK)[2].splitlines()
    cells = dict(zip(head.split(" | "), line.split(" | "), strict=True))
    assert cells["commit"] == "1234567"
    assert (cells["tiny / imap"], cells["decode / SPDL"], cells["NumPy / Loader's import"]) == ("7.00", "0.80", "0.50")
    assert cells["samples / torch"] == ""
    assert rule.count("---:") == len(history.SHOWN) + 1
    assert after == ["", "Text."]


def test_a_ratio_that_fell_by_more_than_a_tenth_of_the_median_is_named(kept):
    for number, imap in enumerate((50.0, 35.0, 25.0)):  # ratios of 7, 10 and 14
        assert history.record(run_of(imap, commit=f"before{number}")) == []
    assert history.record(run_of(350 / 9.1, commit="within")) == []
    assert history.record(run_of(350 / 8.2, loader_ms=300.0, commit="below")) == [
        "FELL: tiny: imap: 8.20, 0.86 of 9.55, the median of 4 runs before",
        "FELL: import of NumPy: import of Loader: 0.33, 0.67 of 0.50, the median of 4 runs before",
    ]
    assert len(history.load()) == 5, "the row of a loss is kept, too"


def test_machines_of_other_kinds_are_not_compared(kept):
    history.record(run_of(machine=MACHINE.replace("2 CPUs", "16 CPUs")))
    assert history.record(run_of(imap=100.0)) == []
    assert history.record(run_of(imap=200.0, machine=MACHINE.replace("2 CPUs", "16 CPUs"))) != []


def test_what_is_no_run_or_was_recorded_is_refused_and_changes_nothing(kept):
    history.record(run_of())
    before = history.DATA.read_text(), history.PAGE.read_text()
    with pytest.raises(ValueError, match="1234567 is recorded already"):
        history.record(run_of())
    with pytest.raises(ValueError, match="does not tell its commit, date"):
        history.record({"machine": MACHINE, "rates": []})
    with pytest.raises(ValueError, match="no ratio that is kept"):
        history.record(run_of(commit="other") | {"rates": [], "targets": [], "starts_ms": {}})
    with pytest.raises(ValueError, match="no kind of machine in 'a machine'"):
        history.record(run_of(commit="other", machine="a machine"))
    assert (history.DATA.read_text(), history.PAGE.read_text()) == before


def test_the_command_tells_what_fell_by_its_exit_status(kept, tmp_path, capsys):
    file = tmp_path / "run.json"
    for commit, imap, status, told in (
        ("one", 50.0, 0, "no ratio has fallen by more than a tenth"),
        ("two", 100.0, 1, "FELL: tiny: imap: 3.50, 0.50 of 7.00, the median of 1 run before"),
    ):
        file.write_text(json.dumps(run_of(imap, commit=commit)))
        if status:
            with pytest.raises(SystemExit) as ended:
                command._record(file)
            assert ended.value.code == status
        else:
            command._record(file)
        assert told in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"none.json: .*No such file"):
        command._record(tmp_path / "none.json")


def test_the_page_in_the_tree_has_the_rows_of_the_data():
    page, rows = history.PAGE.read_text("utf-8"), history.load()
    assert history.drawn_anew(page, rows) == page
    known = {f"{target.workload}: {target.against}" for target in report.TARGETS} | set(history.SHOWN.values())
    known |= {f"{history.NUMPY}: {start}" for start in history.STARTS}
    assert [name for row in rows for name in row["ratios"] if name.replace(", mpqueue threads", "").replace(
        ", mpqueue in threads", "") not in known] == []  # fmt: skip
    assert [row["date"] for row in rows] == sorted(row["date"] for row in rows)


# A run in parts


def part_of(workload, **changes):
    """What ``--json`` writes of one workload and a floor."""
    results = script("parts.benchmark.results").Results(
        {(workload, "mpqueue"): [300.0, 400.0], (workload, "processes"): [600.0, 800.0]}, {}, missing=["spdl"]
    )
    return (
        json.loads(report.as_json(results)) | {"commit": "1234567", "date": "2026-12-01", "machine": MACHINE} | changes
    )


def test_parts_of_a_run_become_what_one_command_would_have_written(kept):
    first, second = run_of(), part_of("image", date="2026-12-02")
    whole = joining.join([first, second])
    assert whole.keys() == first.keys()
    assert whole["rates"] == first["rates"] + second["rates"]
    assert whole["starts_ms"] == first["starts_ms"]
    assert whole["date"] == "2026-12-02"
    assert whole["cost_heads"] == first["cost_heads"]
    told = [line for line in whole["verdicts"] if line.startswith("spdl is not installed")]
    assert len(told) == 1, "what both parts tell is told once"
    assert history.record(whole) == []
    assert history.load()[0]["ratios"] == history.row_of(first)["ratios"]
    assert joining.join([first]) == first


@pytest.mark.parametrize(
    ("second", "why"),
    [
        (part_of("tiny"), "two parts have measured tiny: leave one of them out"),
        (part_of("image", commit="other"), "parts of different runs: commit is '1234567' and 'other'"),
        (part_of("image", workers=5), "parts of different runs: workers is"),
    ],
    ids=["twice", "commit", "workers"],
)
def test_parts_that_are_not_of_one_run_are_refused(second, why):
    with pytest.raises(ValueError, match=why):
        joining.join([part_of("tiny"), second])


def test_the_command_joins_files_into_one_and_refuses_others(tmp_path):
    files, whole = [tmp_path / "image.json", tmp_path / "tree.json"], tmp_path / "whole.json"
    for file in files:
        file.write_text(json.dumps(part_of(file.stem)))
    command._join(files, whole)
    assert {row["workload"] for row in json.loads(whole.read_text())["rates"]} == {"image", "tree"}
    with pytest.raises(SystemExit, match="two parts have measured image"):
        command._join([files[0], files[0]], whole)
    with pytest.raises(SystemExit, match=r"none.json"):
        command._join([tmp_path / "none.json"], whole)


def test_one_part_alone_measures_what_is_of_no_workload():
    """Or each part of a run would measure starts and wake-ups again, which takes a minute."""
    feeds = ["mpqueue"]
    assert {one.what for one in rounds.plan(["image"], feeds, 2, 0.1)} == {"feed", "floor"}
    assert {"starts", "latency", "wake-up", "memory"} <= {one.what for one in rounds.plan(["tiny"], feeds, 2, 0.1)}


# The time that a run may take


class Clock:
    """A clock of measurements, each of which takes so long as it says."""

    def __init__(self, monkeypatch, took_s):
        self.now, self.made = 0.0, []

        def made(one):
            self.made.append(one.name)
            self.now += took_s
            return 1.0

        monkeypatch.setattr(measuring.Measurement, "in_fresh_process", made)

    def __call__(self):
        return self.now


PLANNED = [
    measuring.Measurement("queue", "mpqueue", "queue", 2, 0.1),  # wanted
    measuring.Measurement("queue", "multiprocessing.Queue", "queue", 2, 0.1),  # wanted
    measuring.Measurement("queue", "mpqueue", "queue of images", 2, 0.1),  # wanted
    measuring.Measurement("queue", "multiprocessing.Queue", "queue of images", 2, 0.1),  # wanted
    measuring.Measurement("queue", "mpqueue", "shuffle batch", 2, 0.1),
    measuring.Measurement("queue", "queue.Queue", "shuffle batch", 2, 0.1),
]


def played(clock, minutes):
    gathered = script("parts.benchmark.gather").Gathered([], 2)
    return rounds.measure(PLANNED, 3, gathered, str, budgets.Budget(minutes, clock))


@pytest.mark.parametrize(
    ("minutes", "first", "others"),
    [(18, 6, [6, 6]), (17, 6, [4, 4]), (10.5, 6, [4]), (9, 6, [2]), (6.1, 6, [])],
    ids=["all fits", "what is wanted fits twice", "once", "a part of it", "nothing"],
)
def test_rounds_after_the_first_are_of_what_there_is_time_for(minutes, first, others, monkeypatch):
    clock = Clock(monkeypatch, 60.0)
    results = played(clock, minutes)
    assert len(clock.made) == first + sum(others)
    assert clock.now <= 60 * minutes
    assert len(results.rates["queue", "mpqueue"]) == 1 + len(others)
    assert len(results.rates["shuffle batch", "mpqueue"]) == 1 + others.count(6)
    assert results.ratio("shuffle batch", "queue.Queue") == 1.0
    assert results.left_out == ()
    assert results.took_s["queue queue: mpqueue"] == 60.0


def test_at_the_end_of_the_time_no_measurement_is_begun_and_those_left_out_are_named(monkeypatch):
    clock = Clock(monkeypatch, 60.0)
    results = played(clock, 4)
    assert (len(clock.made), [*results.rates][-1]) == (4, ("queue of images", "multiprocessing.Queue"))
    assert results.left_out == ("shuffle batch: mpqueue", "shuffle batch: queue.Queue")
    assert "there was no time for: shuffle batch: mpqueue, shuffle batch: queue.Queue" in report.as_text(results)


@pytest.mark.parametrize(("quick", "minutes"), [(False, command.MINUTES), (True, command.QUICK_MINUTES)])
def test_a_whole_run_with_every_peer_fits_into_its_time(quick, minutes, monkeypatch):
    """By what the measurements take on a quiet machine: a first round, and of everything one of what is wanted, too."""
    every = argparse.Namespace(quick=quick, files_mb=64)
    for module, name in (
        ("rounds", "missing"), ("service", "service_peers.absent"), ("ray_workloads", "is_installed"),
        ("files", "importlib.util.find_spec"), ("tf1", "python_with_tensorflow"), ("records", "python_with_tensorflow"),
    ):  # fmt: skip
        value = {"missing": [], "service_peers.absent": ()}.get(name, "there")
        path = script(f"parts.benchmark.{module}")
        *owners, last = name.split(".")
        for owner in owners:
            path = getattr(path, owner)
        monkeypatch.setattr(path, last, lambda *_, value=value: value)
    monkeypatch.setattr(rounds, "stream_feeds", lambda: list(script("parts.benchmark.streams").FEEDS))
    known, feeds = list(command._UNNAMED), list(command.FEEDS)
    planned = command._plan_within(minutes, known, feeds, 2, every)
    wanted = [one for one in planned if is_wanted(one)]
    assert {one.workload for one in planned if one.what != "wake-up"} >= (set() if quick else set(known))
    if quick:
        assert wanted == planned
    budget = budgets.Budget(minutes)
    twice = [] if quick else wanted
    assert budget.has_room_for([*planned, *twice])
    assert command._told(planned, minutes, budget).endswith(f"; {minutes:g} minutes for all rounds")


def test_every_ratio_that_is_to_be_reached_is_of_measurements_that_are_wanted():
    def wanted(workload, name):
        what = "records" if workload in script("parts.benchmark.records").RECORDS else "feed"
        name = "TensorFlow" if what == "records" and name.startswith("TensorFlow") else name
        return is_wanted(measuring.Measurement(what, name, workload.removesuffix(" per CPU second"), 2, 0.1))

    for target in report.TARGETS:
        assert wanted(target.workload, target.ours), target
        assert wanted(target.workload, target.against), target
    assert not wanted("tiny", "torch")
    assert not wanted("lines", "TensorFlow")


def test_cold_starts_are_told_beside_an_import_of_numpy():
    made = script("parts.benchmark.results").Results(
        {}, {}, starts={starts.NUMPY: [100.0, 100.0], starts.LOADER: [120.0, 124.0], starts.FROM_LOADER: [190.0, 200.0]}
    )
    lines = [line for line in report.as_text(made).splitlines() if line.startswith("cold start")]
    assert lines == [
        "cold start, import of Loader: 1.22 of an import of NumPy (120 to 124 ms), at most 1.25 wanted: reached",
        "cold start, first batch of a Loader: 1.95 of an import of NumPy (190 to 200 ms), at most 1.8 wanted: MISSED",
    ]
    assert dataclasses.replace(made, starts={}).start_share(starts.LOADER) is None


def test_each_cold_start_is_measured():
    found = starts.start_times(turns=1)
    assert list(found) == list(starts.PROGRAMS)
    assert all(len(times) == 1 and times[0] > 0 for times in found.values())
