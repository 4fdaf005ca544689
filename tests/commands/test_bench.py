"""``mpqueue bench``: the search for the number of workers, the advice, and the command with a real source."""

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import status_at_exit
from helpers.computed_source import Computed
from helpers.coroutines import give_way
from helpers.slow_sources import Slow

import mpqueue
from mpqueue.__main__ import main
from mpqueue.backends.processes.autosize import Size
from mpqueue.commands import serve
from mpqueue.commands.bench import bench as bench_command
from mpqueue.commands.bench import measure as bench_measure
from mpqueue.commands.bench.advice import advise
from mpqueue.commands.bench.measure import Measured, Results, Setting, measure

DEADLOCK_S = 280
DATA = """
import asyncio
import numpy as np
import mpqueue

class Numbers:
    def __len__(self):
        return 6
    def __getitem__(self, index):
        return np.full((4, 3), index, np.float32), "text"

def numbers():
    info = mpqueue.worker_info()
    yield from (np.full(4, index) for index in range(info.shard_id, 6, info.num_shards))

class Awaited(Numbers):
    def __len__(self):
        return 400
    async def __getitem__(self, index):
        await asyncio.sleep(0.05)
        return np.full(4, index)

class Fails(Numbers):
    def __getitem__(self, index):
        raise ZeroDivisionError("of the source")

class Empty(Numbers):
    def __len__(self):
        return 0

def fails():
    raise LookupError("of the factory")

class Plain:
    lengths = np.array([4, 4, 0, 0] * 16)
    equal = [1] * 64
    wrong = [-1] * 64
    def __len__(self):
        return 64
    def __getitem__(self, index):
        raise AssertionError("nothing is loaded")

class Texts(Plain):
    def column(self, name):
        if name != "length":
            raise ValueError("there is no column of this name")
        return [4, 0, 0, 0, 4, 4, 4, 0] * 8
"""


_TWO = Setting(2, "process")


def one(workers, rate, *, backend=None, source_s=0.01, copy_s=0.0, blocked_s=0.0, idle_share=0.0):
    backend = backend or ("process" if workers else "none")
    return Measured(Setting(workers, backend), rate, 0.1, source_s, copy_s, blocked_s, idle_share)


def results(*measured, present=_TWO, step_s=None):
    return Results(measured, present, 1000, 4, step_s)


# The search


def searched(computes, waits, most, cpus):
    """Search for a batch with these seconds of CPU and of waiting; return the tried settings."""

    def try_one(setting):
        took = computes + waits / setting.threads
        rate = min(setting.workers / took, cpus / computes if computes else np.inf)
        return replace(one(setting.workers, rate, source_s=took), setting=setting, blocked_s=waits / setting.threads)

    return bench_measure.climb(try_one, "process", Size(*most))


def test_more_workers_are_tried_until_the_rate_does_not_improve():
    tried = [found.setting.workers for found in searched(0.02, 0.0, (12, 32), cpus=4)]
    assert tried == [1, 2, 3, 4, 6]
    assert [found.setting.workers for found in searched(0.02, 0.0, (3, 1), cpus=4)] == [1, 2, 3]


def test_threads_are_tried_for_a_source_that_waits():
    found = searched(0.0064, 0.064, (1, 32), cpus=1)
    assert [(one.setting.workers, one.setting.threads) for one in found] == [(1, 2**power) for power in range(6)]
    best = results(one(0, 1.0), *found).best.setting
    assert str(best) == "1 process of 32 threads" and best.code() == "workers=1, threads=32"


def test_workers_are_tried_for_a_waiting_source_without_threads():
    assert results(one(0, 1.0), *searched(0.0, 0.02, (8, 1), cpus=2)).best.setting == Setting(8, "process")


def test_fewest_workers_with_the_best_rate_are_enough():
    found = [one(0, 10.0), one(1, 9.0), one(2, 18.0), one(3, 18.5), one(2, 18.2, backend="thread")]
    assert results(*found).best.setting == Setting(2, "thread")


def test_no_workers_are_recommended_only_if_far_faster():
    assert results(one(0, 19.0), one(1, 10.0)).best.setting.workers == 1
    assert results(one(0, 21.0), one(1, 10.0)).best.setting.workers == 0


# The advice


def test_sufficient_workers_are_kept():
    advice = advise(results(one(0, 25.0), one(1, 25.0), one(2, 50.0), one(3, 50.0)))
    assert advice.sentence.startswith("Keep workers=2 (50 batches/s), more workers do not improve the rate; ")
    assert advice.gain == 1.0


@pytest.mark.parametrize("step_s", [None, 0.5], ids=["without a step", "with a step"])
def test_advice_for_threads_warns_of_shared_generators(step_s):
    """Processes need no warning: their generators are seeded."""
    for backend, has_warning in (("thread", True), ("process", False)):
        drawn = ("numpy.random", "Python's random")
        found = replace(
            results(one(0, 10), one(2, 20, backend=backend), present=Setting(0, "none"), step_s=step_s), drawn=drawn
        )
        sentence = advise(found).sentence
        assert ("draws from numpy.random and Python's random, which all threads share" in sentence) is has_warning
        assert ("mpqueue.rng()" in sentence) is has_warning
        assert "mpqueue.rng()" not in advise(replace(found, drawn=())).sentence


def test_advice_names_a_part_that_may_change_unseen(tmp_path):
    source = [np.memmap(tmp_path / "rows", mode="w+", shape=(4,))]
    unseen = bench_measure.first_batch(source, {}).unseen
    assert unseen == "source[0]"
    found = replace(results(one(0, 10), one(2, 20), present=Setting(0, "none")), unseen=unseen)
    assert "source[0] may change at any time" in advise(found).sentence
    assert "may change" not in advise(replace(found, unseen="")).sentence


@pytest.mark.parametrize(
    ("draw", "names"),
    [(random.random, ("Python's random",)), (np.random.rand, ("numpy.random",)), (lambda: mpqueue.rng().random(), ())],
)
def test_generators_used_by_the_source_are_detected(draw, names):
    source = Computed(lambda index: np.full(3, draw()), 4)
    assert bench_measure.first_batch(source, {"batch_size": 2, "shuffle": True}).drawn == names


@pytest.mark.parametrize(
    ("found", "bottleneck", "words"),
    [
        (results(one(0, 9.0), one(2, 20.0, source_s=0.01, copy_s=0.01)), "copy", "up to 2.0 times the rate"),
        (results(one(0, 10.0), one(2, 20.0, blocked_s=0.009)), "waiting", "waits for 90%"),
        (results(one(0, 5000.0), one(2, 8000.0, idle_share=0.5)), "handing over", "make them larger"),
        (results(one(0, 90000.0), one(2, 8000.0)), "handing over", "workers=0"),
        (results(one(0, 10.0), one(2, 20.0)), "source", "only a cheaper source"),
    ],
)
def test_bottleneck_is_named_with_its_remedy(found, bottleneck, words):
    advice = advise(found)
    assert advice.bottleneck == bottleneck
    assert words in advice.sentence
    assert advice.sentence.count(". ") == 0


def test_a_training_step_that_is_slower_than_loading_is_the_bottleneck():
    advice = advise(results(one(0, 50.0), one(1, 50.0), one(2, 100.0), present=Setting(0, "none"), step_s=0.04))
    assert (advice.setting, advice.bottleneck) == (Setting(1, "process"), "step")
    assert advice.gain == pytest.approx(1.5)  # 20 ms and 40 ms one after the other, or at the same time
    assert "takes 40 ms in total, instead of 60 with no workers" in advice.sentence


def test_workers_fast_enough_for_the_step_are_kept():
    advice = advise(results(one(0, 50.0), one(1, 50.0), one(2, 100.0), step_s=0.04))
    assert (advice.setting, advice.gain) == (Setting(2, "process"), 1.0)
    assert advice.sentence.startswith("Keep workers=2: batches arrive 4.0 times as fast as the training step of 40 ms")


# The measurement


class Counted(Slow):
    """Four batches, each with a wait of 1 ms."""

    def __init__(self):
        super().__init__(4, 0.001, 8)

    def __getitem__(self, index):
        return super().__getitem__(index), "text"


@pytest.mark.sample(1)
@pytest.mark.parametrize("setting", [Setting(0, "none"), Setting(1, "process"), Setting(2, "thread")], ids=str)
def test_setting_is_measured_over_several_epochs_if_needed(setting):
    found = measure(Counted(), setting, 0.05, {})
    assert found.setting == setting
    assert found.batches_per_s > 0
    assert found.source_s >= 0.001


@pytest.mark.sample(1)
@pytest.mark.parametrize("setting", [Setting(1, "process"), Setting(1, "thread"), Setting(2, "thread")], ids=str)
def test_source_that_waits_has_blocked_workers(setting):
    found = measure(Counted(), setting, 0.3, {})
    assert 0 < found.blocked_s <= found.source_s


class Awaited(Counted):
    """The same with a coroutine for each batch."""

    async def __getitem__(self, index):
        await give_way()
        return np.full(8, index)


def test_asynchronous_source_is_measured_with_samples_in_flight():
    setting = Setting(1, "process", concurrency=16)
    found = measure(Awaited(), setting, 0.05, {"batch_size": 2})
    assert found.setting == setting
    assert found.batches_per_s > 0


def test_empty_epoch_is_an_error_not_an_endless_loop():
    def nothing():
        yield from ()

    with pytest.warns(UserWarning, match="is empty"), pytest.raises(ValueError, match="no batches"):
        measure(nothing, Setting(0, "none"), 0.1, {})


# The mpqueue command


@pytest.fixture(autouse=True)
def folder(working_folder):
    (working_folder / "data_of_bench.py").write_text(DATA)


@pytest.fixture
def bench(capsys):
    """Return a function that runs the command and returns its output."""

    def run(*arguments):
        assert main(["bench", *arguments, "--seconds", "0.05", "--most-workers", "1"]) == 0
        output, errors = capsys.readouterr()
        assert errors == ""
        return output

    return run


def test_command_measures_a_source_and_recommends_a_change(bench):
    output = bench("data_of_bench.py:numbers").splitlines()
    assert output[0].startswith("data_of_bench.py:numbers: batches of ")
    assert [line for line in output if line.startswith("1 process ")]
    assert [line for line in output if line.startswith("With 1 process, a batch takes ")]
    assert "workers=" in output[-1]


def test_json_has_every_setting_and_the_advice(bench):
    options = "--json --only thread --workers 2 --backend thread --batch-size 3"
    output = json.loads(bench("data_of_bench:Numbers", *options.split()))
    assert [found["setting"] for found in output["measured"]] == [
        {"workers": workers, "backend": backend, "threads": 1, "concurrency": 0}
        for workers, backend in ((0, "none"), (1, "thread"), (2, "thread"))
    ]
    assert output["present"] == {"workers": 2, "backend": "thread", "threads": 1, "concurrency": 0}
    assert output["arrays"] == ["(3, 4, 3) float32"]
    assert output["batch_bytes"] == 3 * 4 * 3 * 4
    assert output["advice"]["sentence"]


def test_samples_in_flight_are_tried_for_an_asynchronous_source(bench, monkeypatch):
    def measure_waiting(source, setting, seconds, options):
        # Real figures of a short measurement depend on the load of the machine, and so would the tried settings.
        took = 0.4 / max(1, setting.concurrency)
        return replace(one(setting.workers, 1 / took, source_s=took, blocked_s=took), setting=setting)

    monkeypatch.setattr(bench_measure, "measure", measure_waiting)
    output = json.loads(bench("data_of_bench:Awaited", "--json", "--batch-size", "8", "--only", "process"))
    assert output["present"]["concurrency"] == 64
    tried = [found["setting"]["concurrency"] for found in output["measured"]]
    assert tried[:3] == [0, 64, 128]
    assert "concurrency=" in output["advice"]["sentence"]


def test_options_of_a_loader_are_those_of_serve_and_apply_to_each_setting(bench, monkeypatch):
    measured = []

    def measure_and_note(source, setting, seconds, options):
        measured.append((setting, options))
        return measure(source, setting, seconds, options)

    monkeypatch.setattr(bench_measure, "measure", measure_and_note)
    of_all = (
        "--max-queue-size 5 --seed 7 --batch-size 2 --drop-last --unordered --on-error skip --max-errors 9 --lanes 3 "
        "--epoch-batches 4 --restarts 1 --batch-timeout 60 --max-batch-bytes 10000 --start-method fork"
    )
    own = "--only thread --workers 1 --threads 1 --backend process --trace timeline.json"
    bench("data_of_bench:numbers", *of_all.split(), *own.split())
    options = {
        "max_queue_size": 5, "seed": 7, "batch_size": 2, "drop_last": True, "ordered": False, "on_error": "skip",
        "max_errors": 9, "lanes": 3, "epoch_batches": 4, "restarts": 1, "batch_timeout": 60.0,
        "max_batch_bytes": 10000, "start_method": "fork",
    }  # fmt: skip
    assert measured == [
        (Setting(0, "none"), options),
        (Setting(1, "thread"), options),
        (Setting(1, "process"), options | {"trace": "timeline.json"}),
    ]
    assert json.loads(Path("timeline.json").read_text("utf-8"))
    served, benched = (
        set(re.findall(r"(?<=  )--[\w-]+", command.make_parser().format_help())) for command in (serve, bench_command)
    )
    servers = {"--name", "--mode", "--slow", "--grace-s", "--lease-timeout", "--journal", "--allow-uids", "--exclude"}
    assert served - benched == servers


# The work of ranks


def ranks(capsys, *arguments):
    """Compare two ranks; return the output."""
    assert main(["bench", *arguments, "--world", "2"]) == 0
    return capsys.readouterr().out


def test_work_of_ranks_is_compared_without_loading(capsys):
    """One or three of the four strings of a step have tokens, so no division of a single step is equal."""
    output = ranks(capsys, "data_of_bench:Texts", "--batch-size", "2", "--cost", "length").splitlines()
    assert output == [
        "data_of_bench:Texts: 2 ranks with batches of 2 samples, 16 steps of epoch 0, cost length",
        "",
        "order     max / mean  less waiting",
        "plain          1.667           0 %",
        "steps=1        1.667           0 %",
        "steps=4        1.000          40 %",
        "group=16       1.000          40 %",
        "",
        'balance=mpqueue.Balance("length", steps=4)',
    ]


def test_json_of_ranks_has_the_same_figures(capsys):
    """Batches of 4 and 4, and of 0 and 0: one step has twice the mean, and a division of its samples is equal."""
    output = json.loads(ranks(capsys, "data_of_bench:Plain", "--batch-size", "2", "--cost", "lengths", "--json"))
    assert output == {
        "factory": "data_of_bench:Plain", "world": 2, "batch_size": 2, "steps": 16, "cost": "lengths",
        "orders": [
            {"order": "plain", "max_over_mean": 2.0, "gain": 0.0},
            *({"order": order, "max_over_mean": 1.0, "gain": 0.5} for order in ("steps=1", "steps=4", "group=16")),
        ],
        "advice": "balance=mpqueue.Balance(source.lengths)",
    }  # fmt: skip


def test_equal_ranks_need_no_balance(capsys):
    output = ranks(capsys, "data_of_bench:Plain", "--batch-size", "4", "--cost", "equal")
    assert output.endswith("\n\nThe work of the ranks is equal: they need no balance\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (":Plain --world 2 --batch-size 2", "--world and --cost are needed together"),
        (":Plain --cost lengths --batch-size 2", "--world and --cost are needed together"),
        (":Plain --world 1 --cost lengths --batch-size 2", "--world must be 2 or more, got 1"),
        (":Plain --world 2 --cost lengths", "pass batch_size"),
        (":Plain --world 2 --cost tokens --batch-size 2", "'tokens' names a column, and Plain has no columns"),
        (":Texts --world 2 --cost tokens --batch-size 2", "there is no column of this name"),
        (":Plain --world 2 --cost wrong --batch-size 2", "must be a finite number of 0 or more"),
        (":Plain --world 99 --cost equal --batch-size 2 --drop-last", "drop_last leaves no batch"),
        (":numbers --world 2 --cost lengths --batch-size 2", "balance needs a source with __getitem__"),
        (":Numbers --threads 2", "pass batch_size"),
        ("", "expected MODULE:FACTORY"),
        (":np.pi", "a source needs __getitem__"),
        (":Numbers --batch-size 0", "batch_size"),
        (":Numbers --step-ms 0", "expected a number above 0"),
        (":Numbers --workers -1", "expected an integer of 0 or more"),
    ],
)
def test_invalid_arguments_exit_with_2_and_a_message(capsys, arguments, words):
    assert status_at_exit("bench", *f"data_of_bench{arguments}".split()) == 2
    assert words in capsys.readouterr().err


def test_missing_factory_exits_with_2_and_its_name(capsys):
    assert status_at_exit("bench") == 2
    assert "FACTORY" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("factory", "words", "last_line"),
    [
        ("Fails", "ZeroDivisionError: of the source", "the source has failed"),
        ("fails", "LookupError: of the factory", "data_of_bench:fails has failed"),
        ("Empty", "at least 1 item", "the source has failed"),
    ],
)
def test_failing_source_exits_with_1_and_its_traceback(capsys, factory, words, last_line):
    assert main(["bench", f"data_of_bench:{factory}"]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.endswith(f"mpqueue bench: {last_line}\n")
