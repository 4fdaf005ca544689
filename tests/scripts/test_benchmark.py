"""``scripts/benchmark.py``: a run measures and reports, and wrong options are rejected."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers.script_modules import SCRIPTS, script


def run(*options):
    command = [sys.executable, str(SCRIPTS / "benchmark.py"), *map(str, options)]
    environ = os.environ | {"PYTHONPATH": str(SCRIPTS.parent)}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=280, check=False)


def test_a_run_reports_rates_and_the_measurements_without_time():
    """On a busy machine, it also warns, and may have time for only one measurement."""
    options = ["--workers", 1, "--workloads", "tiny", "--only", "mpqueue", "--rounds", 1, "--minutes", 0.02]
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


def test_help_needs_no_installed_package(tmp_path):
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-S", "-B", "scripts/benchmark.py", "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, check=True)
    assert all(option in done.stdout for option in ("--quick", "--only", "--workloads", "--json"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["scripts"]


def test_a_wrong_option_ends_the_run_before_the_first_measurement():
    done = run("--only", "imapp")
    assert done.returncode != 0
    assert "'imapp' is not a feed" in done.stderr


def test_a_ratio_is_that_of_the_medians_as_shown_even_if_most_rounds_differ():
    """mpqueue is faster in two of three rounds, although its median is smaller."""
    results = script("parts.benchmark.results").Results
    run = results({("decode", "mpqueue"): [10.0, 33.0, 60.0], ("decode", "spdl"): [9.0, 50.0, 55.0]}, {})
    assert [(name, rate) for _, name, rate, _ in run.rows()] == [("mpqueue", 1056), ("spdl", 1600)]
    assert run.ratio("decode", "spdl") == 0.66
    assert run.ratio("decode", "imap") is None


def test_one_round_has_no_spread():
    cells = script("parts.benchmark.cells")
    assert cells.spread([5.0]) is None
    assert cells.spread([4.0, 5.0, 6.0]) == 0.2
    assert [cells.cell(rate) for rate in (123.6, 12.3456, 0.37128)] == [124, 12.35, 0.3713]


def test_tables_of_the_documentation_name_known_workloads_and_loaders():
    measured, front = script("parts.pictures.measured"), script("parts.pictures.front_page")
    described = script("parts.benchmark.results").DESCRIBED
    named = {workload for table in measured.TABLES.values() for workload in table.workloads}
    assert (named | set(front.QUESTIONS.values())) - set(described) == set()
    # Costs of monitoring are no rates. Remote files, those of MosaicML's package, ranks, blocks, cells and caches are not
    # in a usual run.
    unusual = ("seen", "files far", "files mds", "balance", "blocks", "sparse", "cache")
    assert {name for name in described if not name.startswith(unusual)} - named == {
        "service attach", "ray first batch",
    }  # fmt: skip
    loaders = set(front.LOADERS).union(*(table.names for table in measured.TABLES.values())) - {*measured.FLOORS}
    assert loaders - set(script("parts.benchmark.feeds").FEEDS) == set()


@pytest.mark.parametrize(
    ("name", "part", "sizes", "amount"),
    [
        ("starts", "starts", {"NUM_PATHS": 1000}, 1),
        ("integers", "regions", {"NUMBER": 300}, 300),
        ("lengths", "lengths", {"NUMBER": 40}, None),
        ("shards", "shards", {"SHARDS": 2, "ROWS": 256}, 512),
    ],
)
def test_a_pass_of_a_program_counts_all_its_data(monkeypatch, tmp_path, name, part, sizes, amount):
    module, programs = script(f"parts.benchmark.program_{part}"), script("parts.benchmark.programs")
    for constant, value in sizes.items():
        monkeypatch.setattr(module, constant, value)
    monkeypatch.setattr(module, "CACHE", tmp_path, raising=False)
    expected = sum(module.Sequences().lengths) if amount is None else amount
    assert [programs.PROGRAMS[f"program {name}"].once("mpqueue", 1)[0] for _ in range(2)] == [expected, expected]


def test_each_division_among_ranks_has_its_figures():
    balance, goals = script("parts.benchmark.balance"), script("parts.benchmark.goals")
    way = "heavy tail, tokens + attention, 8 ranks"
    found = balance.balance_figures(way, steps=4)
    methods = {name: found[name][0] for name in balance.METHODS if name in found}
    assert set(balance.METHODS) - set(methods) <= {balance.SAMPLER}
    assert {name for name, figure in methods.items() if figure < 1} == set()
    assert methods[balance.LIMIT] <= min(methods[name] for name in (balance.GREEDY, balance.ONE))
    run = script("parts.benchmark.results").Results({}, {}, service={("balance ranks", way): found})
    lines = list(goals.lines(run))
    assert f"{way}: max / mean plain {methods['plain']:.3f}" in lines[0]
    assert len([line for line in lines if ", target " in line]) >= 2


def test_greedy_division_has_equal_counts():
    """No three of these numbers have a sum of 13, the mean of two ranks."""
    balance = script("parts.benchmark.balance")
    costs = np.array([5, 1, 4, 5, 9, 2])
    ranks = balance.greedy(costs, 2)
    assert ranks.shape == (2, 3)
    assert sorted(ranks.ravel()) == list(range(6))
    assert sorted(costs[ranks].sum(axis=1)) == [12, 14]
    assert balance.inequality(costs[ranks], 2) == [14 / 13]


def test_samples_are_dealt_in_turn_like_those_of_torch():
    torch_data = pytest.importorskip("torch.utils.data")
    balance = script("parts.benchmark.balance")
    count, world = 4 * balance.BATCH, 2
    of_ranks = balance.in_turn(balance.order_of_torch(count), world).reshape(-1, world, balance.BATCH).swapaxes(0, 1)
    for rank, found in enumerate(of_ranks.reshape(world, -1)):
        sampler = torch_data.DistributedSampler(range(count), world, rank, seed=balance.SEED)
        assert found.tolist() == list(sampler)


@pytest.mark.parametrize("way", ["Parquet", "HDF5", "order"])  # zarr leaves threads in this process
def test_each_order_of_blocks_has_its_figures(monkeypatch, way):
    blocks, goals = script("parts.benchmark.blocks"), script("parts.benchmark.goals")
    pytest.importorskip(blocks.NEEDED[way])
    for constant, value in {"GROUP": 100, "CHUNK": 100, "FULL_S": 0.1}.items():
        monkeypatch.setattr(blocks, constant, value)
    found = blocks.block_figures(way, rows=20_000)
    if way == "order":
        shares = [found[blocks.SHARE + name][0] for name in (blocks.NONE, blocks.BUFFER, blocks.BLOCKS, blocks.FULL)]
        assert shares == sorted(shares, reverse=True)
    else:
        assert len(found) == 6 and min(rates[0] for rates in found.values()) > 0
    run = script("parts.benchmark.results").Results({}, {}, service={("blocks", way): found})
    goals_of_way = [line for line in goals.lines(run) if ", target " in line]
    assert len(goals_of_way) == {"Parquet": 4, "order": 0}.get(way, 2)


@pytest.mark.filterwarnings("ignore:Sparse")  # of torch
def test_sparse_dense_and_stock_batches_have_their_figures(monkeypatch):
    pytest.importorskip("scipy")
    pytest.importorskip("torch")
    sparse, goals = script("parts.benchmark.sparse"), script("parts.benchmark.goals")
    monkeypatch.syspath_prepend(SCRIPTS)  # workers import the module
    for constant, value in {"NUM_GENES": 400, "BATCH": 8, "WARM_S": 0.0}.items():
        monkeypatch.setattr(sparse, constant, value)
    found = sparse.sparse_figures(sparse.CELLS, count=24, seconds=0.05)
    names = [
        sparse.ROWS,
        sparse.RAGGED,
        sparse.DENSE,
        sparse.TORCH_CSR,
        sparse.TORCH_RAGGED,
        sparse.STOCK,
        sparse.STOCK_CSR,
    ]
    assert found.keys() == {part + name for name in names for part in (sparse.RATE, sparse.CPU_MS, sparse.MB)}
    assert found[sparse.MB + sparse.DENSE] == [8 * 400 * 4 / 1e6]
    assert found[sparse.MB + sparse.ROWS] == [(8 * 12 * 8 + 9 * 4) / 1e6]
    run = script("parts.benchmark.results").Results({}, {}, service={("sparse", sparse.CELLS): found})
    assert len([line for line in goals.lines(run) if ", target " in line]) == 3


@pytest.mark.slow
@pytest.mark.parametrize("way", ["@mpqueue.cached", "share_memory_", "list", "array"])
def test_each_way_to_keep_images_has_its_figures(monkeypatch, way):
    pytest.importorskip("PIL")
    if way == "share_memory_":
        pytest.importorskip("torch")
    monkeypatch.syspath_prepend(SCRIPTS)  # the ranks import their module
    cache, goals = script("parts.benchmark.cache"), script("parts.benchmark.goals")
    found = cache.cache_figures(way, count=48, ranks=2)
    decoded = {"array": 0, "list": 48}.get(way, 48)
    assert found[cache.DECODED][0] >= decoded
    assert (
        found[cache.LATER_DECODED][0] == 0
        if way in {"@mpqueue.cached", "array"}
        else found[cache.LATER_DECODED][0] >= 48
    )
    run = script("parts.benchmark.results").Results({}, {}, service={("cache", way): found})
    assert len([line for line in goals.lines(run) if ", target " in line]) == (way == "@mpqueue.cached")


@pytest.mark.slow
def test_two_ranks_train_with_a_balance(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(SCRIPTS)  # the ranks import their module
    assert script("parts.benchmark.balance_training").training_rate("mpqueue group", steps=3) > 0


def test_a_run_repeats_what_targets_and_the_front_page_need():
    targeted, measurement = script("parts.benchmark.targeted"), script("parts.benchmark.measure").Measurement
    cases = {
        ("feed", "torch", "decode"): (False, True),
        ("feed", "executor", "decode"): (False, False),
        ("floor", "processes", "decode"): (True, True),
        ("feed", "torch", "tree"): (False, False),
        ("samples", "torch", "program requests"): (False, True),
    }
    for (what, name, workload), expected in cases.items():
        one = measurement(what, name, workload, 2, 1.0)
        assert (targeted.has_target(one), targeted.is_repeated(one)) == expected
