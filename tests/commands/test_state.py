"""``mpqueue state``: the states of loaders in JSON files and in checkpoints of torch."""

import itertools
import json
import pickle

import pytest
from helpers.commands import status_at_exit
from helpers.numbered_batches import iter_after

import mpqueue
from mpqueue.__main__ import main
from mpqueue.commands.state.read import states_in


def saved(batches=3, seed=3, **options):
    """Return the state of a loader after some batches."""
    dataset = mpqueue.Dataset.range(40)
    with mpqueue.Loader(dataset, batch_size=4, seed=seed, workers=0, **options) as loader:
        for _ in itertools.islice(loader, batches):
            pass
        return loader.state_dict()


def stream_state():
    with mpqueue.Loader(mpqueue.Dataset.range(40).filter(bool), seed=5, workers=0, lanes=2) as loader:
        for _ in itertools.islice(loader, 7):
            pass
        return loader.state_dict()


def write(path, contents):
    path.write_text(json.dumps(contents))
    return str(path)


@pytest.fixture
def rows(tmp_path, capsys):
    """Return a function that writes contents to a file, and returns the rows that the command prints for it."""

    def run(contents, *options, status=0):
        assert main(["state", write(tmp_path / "a.json", contents), "--json", *options]) == status
        return json.loads(capsys.readouterr().out)

    return run


def test_state_of_a_json_file_is_printed(tmp_path, capsys):
    assert main(["state", write(tmp_path / "a.json", saved(shuffle=True))]) == 0
    assert capsys.readouterr().out == ".\n  seed   3\n  epoch  0\n  batch  3\n  step   3\n"


def test_numbers_and_strings_that_json_or_a_terminal_cannot_represent_are_printed(tmp_path, capsys, rows):
    contents = saved() | {"seed": "\ud800", "step": [float("nan"), float("inf")]}
    assert rows(contents)[0]["step"] == [None, None]
    assert main(["state", write(tmp_path / "a.json", contents)]) == 0
    assert "  seed   \\ud800\n" in capsys.readouterr().out


def test_states_are_found_in_nested_dicts_and_lists_in_order(rows):
    contents = {
        "model": {"weights": [1.0, 2.0]},
        "loaders": [{"train": saved()}, saved(5, seed=4)],
        "callbacks": {"KeepLoader.v1": {"state": stream_state()}, "7": None},
    }
    assert rows(contents) == [
        {"key": "loaders[0].train", "seed": 3, "epoch": 0, "batch": 3, "step": 3},
        {"key": "loaders[1]", "seed": 4, "epoch": 0, "batch": 5, "step": 5},
        {"key": "callbacks['KeepLoader.v1'].state", "seed": 5, "epoch": 0, "batch": 7, "step": 7},
    ]


def test_states_in_a_checkpoint_of_torch_are_printed(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    import mpqueue.torch

    loader = mpqueue.torch.DataLoader(list(range(40)), batch_size=4, shuffle=True, num_workers=0)
    new = loader.state_dict()
    list(itertools.islice(loader, 3))
    contents = {"model": torch.nn.Linear(2, 2).state_dict(), 5: [loader.state_dict(), saved(), new]}
    torch.save(contents, tmp_path / "a.pt")
    torch.save(contents, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("a.pt", "old.pt"):
        assert main(["state", str(tmp_path / name), "--json"]) == 0
        first, second, third = json.loads(capsys.readouterr().out)
        assert isinstance(first.pop("seed"), int)
        assert first == {"key": "[5][0]", "epoch": 0, "batch": 3}
        assert second == {"key": "[5][1]", "seed": 3, "epoch": 0, "batch": 3, "step": 3}
        assert third == {"key": "[5][2]"}


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_file_without_a_state_has_exit_status_1(tmp_path, capsys, options):
    path = write(tmp_path / "a.json", {"seed": 3, "epoch": 1, "items": ["x", {"position": 3}]})
    assert main(["state", path, *options]) == 1
    printed = capsys.readouterr()
    assert printed.out == ("[]\n" if options else "")
    assert printed.err == (
        f"mpqueue state: {path} contains no state of a loader: save loader.state_dict() in it, alone or in a dict or "
        "list\n"
    )


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe"])
def test_file_of_another_format_has_exit_status_1(tmp_path, capsys, data):
    (tmp_path / "a").write_bytes(data)
    assert main(["state", str(tmp_path / "a")]) == 1
    assert "expected JSON, or a file that torch.save wrote" in capsys.readouterr().err


def test_code_of_a_checkpoint_is_not_run(tmp_path, capsys):
    pytest.importorskip("torch")

    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "written"), "w")

    (tmp_path / "a.pt").write_bytes(pickle.dumps(Evil(), 2))
    assert main(["state", str(tmp_path / "a.pt")]) == 1
    assert "torch.load(weights_only=True) cannot read it" in capsys.readouterr().err
    assert not (tmp_path / "written").exists()


def test_missing_file_and_folder_have_exit_status_1(tmp_path, capsys):
    assert main(["state", str(tmp_path / "missing")]) == 1
    assert main(["state", str(tmp_path)]) == 1
    printed = capsys.readouterr().err.splitlines()
    assert [line.rpartition(": ")[2] for line in printed] == ["No such file or directory", "Is a directory"]


def test_contents_that_contain_themselves_are_searched_once():
    contents = {"states": [saved()]}
    contents["again"] = contents
    assert [found.key for found in states_in(contents)] == ["states[0]"]


FACTORIES = """
import mpqueue
from mpqueue import Dataset

def loader():
    return mpqueue.Loader(Dataset.range(40), batch_size=4, shuffle=True, seed=9, workers=2)

def rank():
    return mpqueue.Loader(Dataset.range(40), batch_size=4, shuffle=True, shard=(1, 2))

def stream():
    return mpqueue.Loader(Dataset.range(40).filter(bool), lanes=2)

class Broken:
    def __len__(self):
        return 3

    def __iter__(self):
        yield 0
        raise TypeError("of the sampler")

def broken():
    return mpqueue.Loader(range(3), sampler=Broken())

def numbers():
    return list(range(40))

def fails():
    raise ZeroDivisionError("of the factory")
"""


@pytest.fixture
def made(working_folder):
    """A file with factories."""
    (working_folder / "make.py").write_text(FACTORIES)
    return str(working_folder / "make.py")


def taken(number, **options):
    """Return the state of a loader after some batches, and the samples of the batch after them."""
    options = {"batch_size": 4, "shuffle": True} | options
    with mpqueue.Loader(mpqueue.Dataset.range(40), seed=3, workers=0, **options) as loader:
        batches = iter_after(loader, number)
        state = loader.state_dict()
        next(batches)
        return state, list(loader.last.samples)


@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize("factory", ["loader", "rank"])
def test_source_shows_the_ids_of_the_next_batch(rows, made, factory, number):
    state, following = taken(number, **{"shard": (1, 2)} if factory == "rank" else {})
    (row,) = rows([state], "--source", f"{made}:{factory}")
    assert (row["key"], row["next"]) == ("[0]", json.loads(json.dumps(following)))


def test_state_of_a_stream_has_its_place_and_says_when_the_next_batch_is_known(rows, made):
    (row,) = rows(stream_state(), "--source", f"{made}:stream")
    assert (row["epoch"], row["batch"]) == (0, 7)
    message = "a batch of a stream is known after it was made: load the state, call next, and read loader.last"
    assert row["next"] == message


def test_source_after_the_last_batch_shows_the_next_epoch(tmp_path, capsys, made):
    with mpqueue.Loader(mpqueue.Dataset.range(40), batch_size=4, shuffle=True, seed=3, workers=0) as loader:
        assert len(list(loader)) == 10
        path = write(tmp_path / "a.json", loader.state_dict())
        following = next(iter(loader)).tolist()
    assert main(["state", path, "--source", f"{made}:loader"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"  next   {following}"


def test_state_that_does_not_fit_shows_its_message_in_place_of_the_ids(rows, made):
    fits, following = taken(2)
    first, second = rows([saved(), fits], "--source", f"{made}:loader", status=1)
    assert "next" not in first
    assert "the state was saved" in first["error"]
    assert second["next"] == following
    assert "error" not in second


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("missing", "has no 'missing', only"),
        ("numbers", "numbers makes a list: expected a function that returns the mpqueue.Loader of the state"),
    ],
)
def test_source_that_makes_no_loader_is_an_invalid_argument(tmp_path, capsys, made, factory, message):
    path = write(tmp_path / "a.json", saved())
    assert status_at_exit("state", path, "--source", f"{made}:{factory}") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err


@pytest.mark.parametrize(
    ("factory", "message"),
    [("fails", "ZeroDivisionError: of the factory"), ("broken", "TypeError: of the sampler")],
)
def test_error_of_the_factory_or_its_sampler_is_printed_with_its_traceback(tmp_path, capsys, made, factory, message):
    with mpqueue.Loader(range(3), sampler=range(3), workers=0) as loader:
        batches = iter(loader)
        assert [next(batches), next(batches)] == [0, 1]
        path = write(tmp_path / "a.json", loader.state_dict())
    assert main(["state", path, "--source", f"{made}:{factory}"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.splitlines()[-1] == f"mpqueue state: {made}:{factory} has failed"
