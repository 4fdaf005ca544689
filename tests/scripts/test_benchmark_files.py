"""The benchmark's workloads of files: the sets, who reads them, and what is told of them."""

import importlib.util
import io
import itertools

import fsspec.asyn
import pytest
from helpers.scripts import script

files = script("parts.benchmark.files")
file_cache = script("parts.benchmark.file_cache")
file_sets = script("parts.benchmark.file_sets")
remote_files = script("parts.benchmark.remote_files")
fsspec.asyn.get_loop()  # its thread stays for the life of the process


def jpeg(number):
    image = pytest.importorskip("PIL.Image")
    data = io.BytesIO()
    image.new("RGB", (8, 8), (number, 0, 0)).save(data, "jpeg")
    return data.getvalue()


@pytest.fixture
def samples(tmp_path, monkeypatch):
    """Seventy of them, in a cache of their own."""
    found = [(f"{number:08d}", jpeg(number), number % 3) for number in range(70)]
    monkeypatch.setattr(file_sets, "jpegs", lambda _: iter(found))
    monkeypatch.setattr(file_sets, "CACHE", tmp_path)
    monkeypatch.setattr(files, "_INDEX", tmp_path / "indexes")
    return found


@pytest.mark.parametrize(
    ("name", "reader"),
    [
        (name, reader)
        for name in files.FILES
        for reader in files.FILES[name].readers
        if name != "files decoded" and files.FILES[name].measure is None and reader.startswith(files.OURS)
    ],
)
def test_an_epoch_has_each_sample_once_in_another_order(samples, name, reader):
    workload = files.FILES[name]
    for package in filter(None, (workload.writer, "google_crc32c" if name == "files tfrecord" else "")):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    batches = workload.readers[reader].feed(file_sets.file_set(workload.form, 1))
    seen = list(itertools.islice(itertools.chain.from_iterable(batches), 140))
    wanted = [data[-200:].hex() if name == "files json lines" else data for _, data, _ in samples]
    assert sorted(seen[:70]) == sorted(seen[70:]) == sorted(wanted)
    assert seen[:70] != wanted
    assert seen[:70] != seen[70:] or reader == files.IN_A_BUFFER


def test_decoded_images_come_in_batches(samples):
    folder = file_sets.file_set("folder", 1)[0]
    with files.FILES["files decoded"].readers[files.OURS].feed(folder, 1) as batches:
        assert next(batches).shape == (32, 8, 8, 3)


@pytest.mark.parametrize(
    ("name", "reader"),
    [
        (name, reader)
        for name in files.FILES
        for reader in files.FILES[name].readers
        if not reader.startswith(files.OURS) and not name.startswith("files far")
    ],
)
def test_a_peer_reads_its_format(name, reader, request):
    """In a process of its own: peers leave segments and descriptors behind."""
    if not request.config.getoption("--peers"):
        pytest.skip("peers are tried with --peers")
    if reader not in files.file_readers(name):
        pytest.skip(f"{reader} is not installed")
    measurement = script("parts.benchmark.measure").Measurement("files", reader, name, 1, 0.05, 1)
    found = measurement.in_fresh_process()
    assert found["rate"] > 0
    assert found["per_cpu"] > 0


def test_the_group_has_all_formats_and_each_is_read_once():
    """What is told per CPU second comes from the same measurement."""
    command, rounds = script("parts.benchmark.command"), script("parts.benchmark.rounds")
    assert command._named(["files", "tiny"]) == [*files.FILES, "tiny"]
    planned = rounds.plan(files.FILES, [], 2, 1.0, 3)
    assert [(one.workload, one.name) for one in planned] == [
        (name, reader) for name in files.FILES for reader in files.file_readers(name)
    ]
    assert {(one.what, one.megabytes) for one in planned} == {("files", 3)}
    for name in files.FILES:
        assert sorted(files.file_readers(name) + files.absent_readers(name)) == sorted(files.FILES[name].readers)


@pytest.mark.parametrize("kind", file_cache.KINDS)
def test_a_cache_on_the_disk_is_read_in_its_second_epoch(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(files, "CACHE", tmp_path)
    monkeypatch.setattr(files, "CACHED_SAMPLES", 64)
    monkeypatch.setattr(file_cache, "MEDIAN_BYTES", 1000)
    monkeypatch.setattr(file_cache, "SIDE", 8)
    found = files.file_figures(f"files cached {kind}", files.OURS, 1, 0, 0.01)  # no workers: they have no scripts
    assert min(found["rate"], found["per_cpu"]) > 0
    assert not list(tmp_path.iterdir())


def test_what_is_got_of_a_link_is_told_beside_a_bare_reader(tmp_path, monkeypatch):
    """As fast as this machine is, without a delay: what is looked at is that each of them reads."""
    monkeypatch.setattr(remote_files, "DELAY_S", 0.0)
    monkeypatch.setattr(remote_files, "RATE", 1e9)
    monkeypatch.setattr(remote_files, "SET_BYTES", 1_000_000)
    monkeypatch.setattr(remote_files, "AHEAD_BYTES", 200_000)
    monkeypatch.setattr(remote_files, "BARE_THREADS", 4)
    for name in remote_files.READERS:
        rate = remote_files.link_rate(name, 10_000, 1, 0.05)
        assert rate == 1e9 if name == remote_files.LINK else 0 < rate < 2e9


def test_the_table_of_files_is_drawn_into_its_page(tmp_path, monkeypatch):
    pages = script("parts.benchmark.files_page")
    monkeypatch.setattr(pages, "PAGE", tmp_path / "page.md")
    pages.PAGE.write_text(f"Before.\n{pages._MARK}| old |\n|---|\n\nAfter.\n")

    def row(workload, name, median, ratio=None):
        return {"workload": workload, "name": name, "unit": "samples/CPU s", "median": median, "ratio": ratio}

    rates = [row("files tar per CPU second", "mpqueue", 3000.4), row("files tar per CPU second", "webdataset", 1000, 3)]
    rates += [row("files tar", "mpqueue", 1), row("files far", "mpqueue", 90.0), row("files far", "the link", 100, 0.9)]
    pages.draw({"rates": [*rates, row("tiny", "mpqueue", 1)]})
    assert pages.PAGE.read_text().splitlines() == [
        "Before.",
        pages._MARK.strip(),
        "| what is read | mpqueue | beside | mpqueue has of it |",
        "|---|---:|---|---:|",
        "| tar | 3,000 samples/CPU s | webdataset 1,000 | 3.00 |",
        "| far | 90 samples/CPU s | the link 100 | 0.90 |",
        "",
        "After.",
    ]
    with pytest.raises(ValueError, match="no workload of files"):
        pages.draw({"rates": [row("tiny", "mpqueue", 1)]})


def test_the_page_of_files_has_the_mark_of_its_table():
    pages = script("parts.benchmark.files_page")
    assert pages.PAGE.read_text().count(pages._MARK + "|") == 1


def test_rates_are_told_in_both_units():
    gathered = script("parts.benchmark.gather").Gathered([], 2)
    measurement = script("parts.benchmark.measure").Measurement
    for reader, rate in ((files.OURS, 30.0), ("webdataset", 10.0)):
        gathered.add(measurement("files", reader, "files tar", 1, 1.0), {"rate": rate, "per_cpu": 2 * rate})
    results = gathered.results()
    assert [row[:3] for row in results.rows()] == [
        ("files tar", "mpqueue", 960.0), ("files tar", "webdataset", 320.0),
        ("files tar per CPU second", "mpqueue", 1920.0), ("files tar per CPU second", "webdataset", 640.0),
    ]  # fmt: skip
    assert results.ratio("files tar per CPU second", "webdataset") == 3.0
    gathered.add_failure(measurement("files", "webdataset", "files tar", 1, 1.0), RuntimeError("it failed"))
    assert {name for _, name in gathered.results().rates} == {files.OURS}
