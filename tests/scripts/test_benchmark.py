"""``scripts/benchmark.py``: a run measures and reports, and wrong options are rejected."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers.forked_calls import status_of_fork
from helpers.script_modules import SCRIPTS, script


def run(*options):
    command = [sys.executable, str(SCRIPTS / "benchmark.py"), *map(str, options)]
    environ = os.environ | {"PYTHONPATH": str(SCRIPTS.parent)}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=280, check=False)


def test_a_run_reports_rates_and_the_measurements_without_time():
    """On a busy machine, it also warns, and may have time for only one measurement."""
    options = ["--workers", 1, "--workloads", "tiny", "--only", "mpqueue,imap", "--rounds", 1, "--minutes", 0.02]
    done = run(*options)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^tiny: .*\n  \w+ +[1-9][\d,]+ batches/s +one round", done.stdout, re.M), done.stdout
    assert "not measured within the time limit: " in done.stdout


def test_a_loaded_machine_gets_no_file_of_results(tmp_path):
    load = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        done = run("--workloads", "tiny", "--json", tmp_path / "run.json")
    finally:
        load.kill()
        load.wait()
    assert done.returncode == 1
    assert "run.json is not written: other programs use the machine: " in done.stderr
    assert re.search(rf"\(process {load.pid}\) \d+% of a CPU", done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_option_ends_the_run_before_the_first_measurement():
    done = run("--only", "imapp")
    assert done.returncode != 0
    assert "'imapp' is not a library" in done.stderr


def test_a_ratio_is_that_of_the_medians_as_shown_even_if_most_rounds_differ():
    """mpqueue is faster in two of three rounds, although its median is smaller."""
    rates = {"mpqueue": [10.0, 33.0, 60.0], "spdl": [9.0, 50.0, 55.0]}
    run = script("parts.benchmark.results").Results(
        figures={("decode", name): {"rate": found} for name, found in rates.items()}
    )
    assert [(row.name, row.median) for row in run.rows()] == [("mpqueue", 1056), ("spdl", 1600)]
    assert run.ratio("decode", "spdl") == 0.66
    assert run.ratio("decode", "imap") is None


def test_one_round_has_no_spread():
    cells = script("parts.benchmark.cells")
    assert cells.spread([5.0]) is None
    assert cells.spread([4.0, 5.0, 6.0]) == 0.2
    assert [cells.cell(rate) for rate in (123.6, 12.3456, 0.37128)] == [124, 12.35, 0.3713]


def test_the_recorded_run_has_the_usual_workloads_and_the_front_page_names_known_ones():
    measured, front = script("parts.pictures.measured"), script("parts.pictures.front_page")
    known, peers = script("parts.benchmark.known").WORKLOADS, script("parts.benchmark.feeds").PEERS
    rates = {name for name, each in known.items() if each.is_usual and each.unit not in ("ms", "MB")}
    recorded = {row["workload"] for row in measured.load()["rows"]}
    assert recorded == rates
    assert set(front.QUESTIONS) <= rates
    assert set(front.LOADERS) <= set(peers)


def test_the_workloads_of_a_first_word_are_requested_together():
    named = script("parts.benchmark.command").named
    assert named(["tiny", "balance"]) == ["tiny", "balance ranks", "balance training"]
    with pytest.raises(SystemExit, match="'fil' is not a workload"):
        named(["fil"])


@pytest.mark.parametrize(
    ("name", "size", "value", "amount"), [("starts", "NUM_PATHS", 1000, 1), ("lengths", "NUMBER", 40, None)]
)
def test_a_pass_of_a_program_counts_all_its_data(monkeypatch, name, size, value, amount):
    programs = script("parts.benchmark.workloads.programs")
    monkeypatch.setattr(programs, size, value)
    expected = sum(programs.Sequences().lengths) if amount is None else amount
    assert [programs.WORKLOADS[f"program {name}"].once("mpqueue", 1)[0] for _ in range(2)] == [expected, expected]


def test_each_division_among_ranks_has_its_figures():
    balance = script("parts.benchmark.workloads.balance")
    way = "heavy tail, tokens, 8 ranks"
    found = balance.balance_figures(way, steps=4)
    methods = {name: found[name][0] for name in balance.METHODS if name in found}
    assert set(balance.METHODS) - set(methods) <= {balance.SAMPLER}
    assert {name for name, figure in methods.items() if figure < 1} == set()
    assert methods[balance.LIMIT] <= min(methods[name] for name in (balance.GREEDY, balance.ONE))
    run = script("parts.benchmark.results").Results(figures={("balance ranks", way): found})
    report = script("parts.benchmark.report").as_text(run)
    assert f"balance ranks, {way}, plain: {methods['plain']:.3g} (" in report


def test_greedy_division_has_equal_counts():
    """No three of these numbers have a sum of 13, the mean of two ranks."""
    balance = script("parts.benchmark.workloads.balance")
    costs = np.array([5, 1, 4, 5, 9, 2])
    ranks = balance.greedy(costs, 2)
    assert ranks.shape == (2, 3)
    assert sorted(ranks.ravel()) == list(range(6))
    assert sorted(costs[ranks].sum(axis=1)) == [12, 14]
    assert balance.inequality(costs[ranks], 2) == [14 / 13]


def test_samples_are_dealt_in_turn_like_those_of_torch():
    torch_data = pytest.importorskip("torch.utils.data")
    balance = script("parts.benchmark.workloads.balance")
    count, world = 4 * balance.BATCH, 2
    of_ranks = balance.in_turn(balance.order_of_torch(count), world).reshape(-1, world, balance.BATCH).swapaxes(0, 1)
    for rank, found in enumerate(of_ranks.reshape(world, -1)):
        sampler = torch_data.DistributedSampler(range(count), world, rank, seed=balance.SEED)
        assert found.tolist() == list(sampler)


@pytest.mark.parametrize("way", ["Parquet", "HDF5", "order"])  # zarr leaves threads in this process
def test_each_order_of_blocks_has_its_figures(monkeypatch, way):
    blocks = script("parts.benchmark.workloads.blocks")
    pytest.importorskip({"Parquet": "pyarrow", "HDF5": "h5py"}.get(way, "numpy"))
    for constant, value in {"GROUP": 100, "CHUNK": 100, "FULL_S": 0.1}.items():
        monkeypatch.setattr(blocks, constant, value)
    found = blocks.block_figures(way, rows=20_000)
    if way == "order":
        orders = (blocks.BUFFER, blocks.BLOCKS, blocks.FULL)
        distances = [found[blocks.DISTANCE + name][0] for name in orders]
        assert distances == sorted(distances)
    else:
        assert len(found) == 3 and min(rates[0] for rates in found.values()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("way", ["@mpqueue.cached", "list"])
def test_each_way_to_keep_images_has_its_figures(monkeypatch, way):
    pytest.importorskip("PIL")
    monkeypatch.syspath_prepend(SCRIPTS)  # the ranks import their module
    cache = script("parts.benchmark.workloads.cache")

    def measure():
        found = cache.cache_figures(way, count=48, ranks=2)
        decoded = found[cache.DECODED][0]  # two ranks read 48 images, and one before
        assert 49 <= decoded < 2 * 49 if way == "@mpqueue.cached" else decoded == 2 * 49

    assert status_of_fork(measure) == 0  # the shared memory of `multiprocessing` remains until the process exits


@pytest.mark.slow
def test_two_ranks_train_with_a_balance(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(SCRIPTS)  # the ranks import their module
    assert script("parts.benchmark.workloads.balance_training").training_rate("mpqueue group", steps=3) > 0


def test_a_run_repeats_what_the_front_page_and_the_lists_of_pages_show():
    rounds, setting = script("parts.benchmark.rounds"), script("parts.benchmark.workload").Setting(2, 1.0)
    cases = {
        ("decode", "torch"): True,
        ("decode", "grain"): True,
        ("decode", "torch tensors"): False,
        ("tree", "torch"): False,
        ("program requests", "torch"): True,
        ("first batch", "mpqueue"): True,
    }
    assert {case: rounds.is_important(rounds.Measurement(*case, setting)) for case in cases} == cases
