"""`cached`: a method of any dataset is called once for each argument, whatever process calls it."""

import enum
import functools
import gc
import importlib
import inspect
import math
import os
import pathlib
import pickle
import random
import subprocess
import sys
import textwrap
import threading
import weakref

import cloudpickle
import numpy as np
import pytest
from helpers.concurrent_calls import in_processes, in_threads
from helpers.counted_calls import Calls
from helpers.deadlock import DEADLOCK_S
from helpers.forked_calls import status_of_fork
from helpers.loader_runs import batches_of

import mpqueue
from mpqueue import Dataset
from mpqueue.dataset.caching.caches import folder_usage
from mpqueue.dataset.description.fingerprint import fingerprint_of


@pytest.fixture
def calls(tmp_path):
    return Calls(tmp_path / "calls")


def image(number, size=4):
    return np.full((size, size, 3), number % 251, np.uint8)


def set_class(folder, calls, **options):
    """Return a class of datasets with a cached method `decoded`."""

    class Images:
        def __init__(self, **attributes):
            vars(self).update(attributes)

        def __len__(self):
            return 40

        def __getitem__(self, index):
            return self.decoded(index)

        @mpqueue.cached(folder, **options)
        def decoded(self, index, size=4, *, name="a"):
            """Decode."""
            calls.add()
            return image(index, size)

    return Images


def test_method_is_called_once_for_each_argument(tmp_path, calls):
    kind = set_class(tmp_path / "kept", calls)
    for _ in range(2):  # two objects that are equal, in two epochs
        images = kind(root="photos")
        for _ in range(2):
            for number in range(20):
                assert images.decoded(number).tolist() == image(number).tolist()
    assert calls.take() == 20
    assert kind.decoded.__doc__ == "Decode."
    assert list(inspect.signature(kind.decoded).parameters) == ["self", "index", "size", "name"]


class Flags(enum.IntFlag):
    ONE = 1


ARGUMENTS = [
    ((3,), {}), ((3, 5), {}), ((3, 5.0), {}), ((3,), {"name": "b"}), ((True,), {}), ((3.0,), {}), (("3",), {}), ((b"3",), {}),
    ((-1,), {}), ((1 << 40,), {}), ((None,), {}), (([3],), {}), (((3,),), {}), (({"a": 3},), {}), ((pathlib.Path("3"),), {}),
    ((3, 4), {"name": "1 'c"}), ((np.float32(0.5),), {}), ((np.float64(0.5),), {}), ((np.uint8(200),), {}), ((200,), {}),
    ((Flags(8),), {}), ((Flags(16),), {}), ((np.bytes_(b"a"),), {}), ((b"a",), {}),
]  # fmt: skip


def test_different_arguments_have_different_results(tmp_path, calls):
    class Named:
        @mpqueue.cached(tmp_path / "kept")
        def named(self, index, size=4, *, name="a"):
            calls.add()
            return repr((index, size, name))

    named = Named()
    for again in range(2):
        for args, kwargs in ARGUMENTS:
            index, size = (*args, 4)[:2]
            assert named.named(*args, **kwargs) == repr((index, size, kwargs.get("name", "a")))
        assert calls.take() == (0 if again else len(ARGUMENTS))
    for same in [((), {"index": 3}), ((3, 4), {}), ((3,), {"size": 4, "name": "a"}), ((np.int64(3),), {})]:
        assert named.named(*same[0], **same[1]) == "(3, 4, 'a')"
    assert calls.take() == 0
    with pytest.raises(TypeError, match="missing"):
        named.named()


def test_arguments_with_the_same_number_are_told_apart(tmp_path, calls, monkeypatch):
    from mpqueue.dataset.caching import cached

    monkeypatch.setattr(cached, "_TABLES", (1, 8))

    @mpqueue.cached(tmp_path / "kept")
    def doubled(text):
        calls.add()
        return text * 2

    for _ in range(2):
        assert [doubled(str(number)) for number in range(20)] == [str(number) * 2 for number in range(20)]
    assert calls.take() == 20 + 11  # 9 have places


@pytest.mark.slow
def test_index_of_many_arguments_is_small(tmp_path):
    @mpqueue.cached(tmp_path / "kept")
    def length(path):
        return len(path)

    for number in range(3000):
        assert length(f"{number}.jpg") == len(f"{number}.jpg")
    (index,) = (tmp_path / "kept").glob("*.index")
    assert index.stat().st_blocks * 512 < 1_500_000  # a page for each would be 12 MB


def test_any_positional_arguments_are_told_apart(tmp_path):
    class Words:
        @mpqueue.cached(tmp_path / "kept")
        def joined(*args, **kwargs):
            return "".join(args[1:]) + str(kwargs)

    assert [Words().joined("a"), Words().joined("b"), Words().joined("a", "b")] == ["a{}", "b{}", "ab{}"]


class ResumePoint:
    """A path with more than its text."""

    def __fspath__(self):
        return "a"


def test_paths_with_more_attributes_are_refused(tmp_path):
    @mpqueue.cached(tmp_path / "kept")
    def described(value):
        return os.fspath(value)

    with pytest.raises(TypeError, match="contains a ResumePoint"):
        described(ResumePoint())


STATES = [
    {}, {"size": 3}, {"size": 3.0}, {"size": True}, {"size": "3"}, {"other": 3}, {"size": 3, "other": 3}, {"size": None},
    {"files": ["a", "b"]}, {"files": ("a", "b")}, {"files": ["a", "c"]}, {"files": [["a"], "b"]}, {"files": {"a", "b"}},
    {"files": {"a": 1}}, {"files": {"a": [1, 2]}}, {"root": pathlib.Path("x")}, {"root": "x"}, {"size": -0.0}, {"size": 0.0},
    {"files": list(map(str, range(3000)))}, {"files": [*map(str, range(2999)), "x"]},
]  # fmt: skip


def test_different_attributes_have_different_results(tmp_path, calls):
    kind = set_class(tmp_path / "kept", calls)
    for again in range(2):
        for state in STATES:
            kind(**state).decoded(3)
        assert calls.take() == (0 if again else len(STATES))


def test_change_of_an_attribute_is_noticed_by_the_next_call(tmp_path, calls):
    images = set_class(tmp_path / "kept", calls)(size=3, files=["a", ["b"]], table={"a": {"b": 1}})

    changes = [
        lambda: None,
        lambda: images.files.append("c"),
        lambda: images.table["a"].update(b=2),
        lambda: setattr(images, "files", ["a"]),
        lambda: setattr(images, "new", 1),
        lambda: setattr(images, "size", 4),
    ]
    for change in changes:
        change()
        for _ in range(2):
            images.decoded(1)
        assert calls.take() == 1
    images.size = 3
    del images.new
    images.decoded(1)
    assert calls.take() == 0


@pytest.mark.parametrize("kind", [list, dict, set])
def test_change_in_a_long_container_is_noticed(tmp_path, calls, kind):
    """As a shuffle of the file names between two epochs, which keeps their number."""
    names = [f"{number:08}.jpg" for number in range(5000)]
    files = {list: lambda: list(names), dict: lambda: {"a": list(names)}, set: lambda: set(names)}[kind]()
    images = set_class(tmp_path / "kept", calls)(files=files)
    images.decoded(1)
    if kind is set:
        files.remove("00000007.jpg")
        files.add("other.jpg")
    else:
        random.Random(1).shuffle(files if kind is list else files["a"])
    for _ in range(2):
        images.decoded(1)
    assert calls.take() == 2


def test_attributes_that_are_not_plain_need_a_key(tmp_path, calls):
    lock = threading.Lock()
    with pytest.raises(
        TypeError, match=r"attribute 'lock' of Images contains a lock, .*pass key=, a function of the obj"
    ):
        set_class(tmp_path / "kept", calls)(lock=lock).decoded(1)
    with pytest.raises(TypeError, match=r"attribute 'parts' of Images contains a lock"):
        set_class(tmp_path / "kept", calls)(parts=[{"a": lock}]).decoded(1)
    kind = set_class(tmp_path / "kept", calls, key=lambda self: (self.size, ["x"]))
    for size in (3, 4, True, 1):
        for _ in range(2):
            assert kind(lock=lock, size=size).decoded(1).tolist() == image(1).tolist()
    assert calls.take() == 4
    images = kind(lock=lock, size=3)
    images.decoded(1)
    images.size = 5
    images.decoded(1)
    assert calls.take() == 1
    with pytest.raises(TypeError, match="the result of key contains a lock"):
        set_class(tmp_path / "kept", calls, key=lambda self: self.lock)(lock=lock).decoded(1)
    with pytest.raises(TypeError, match=r"argument 'index' of .*decoded contains a lock"):
        kind(size=1).decoded(lock)


def test_variables_and_defaults_that_are_not_plain_need_a_key(tmp_path):
    means = np.arange(3.0)

    def of_variable(number):
        return number + means[0]

    def of_default(number, means=means):
        return number + means[0]

    def of_keyword(number, *, means=means):
        return number + means[0]

    for function, what in ((of_variable, "variable"), (of_default, "default"), (of_keyword, "default")):
        with pytest.raises(TypeError, match=rf"{what} 'means' of .*{function.__name__} contains a ndarray.*pass key="):
            mpqueue.cached(tmp_path)(function)(1)
        assert mpqueue.cached(tmp_path, key=lambda _: means.tolist())(function)(1) == 1


MODULE = """
import mpqueue
LIMIT = 3
def helper(number):
    return number * 2 + LIMIT
class Set:
    OFFSET = 10
    def __init__(self):
        self.size = 1
    def method(self, number):
        return number - 1
    @mpqueue.cached(FOLDER, version=VERSION)
    def value(self, number, more=1):
        CALLS.append(number)
        return helper(self.method(number)) + self.OFFSET + more
"""
OWN = [(" + more", " - more"), ("more=1", "more=2"), ("self.OFFSET + more", "more")]
OTHER = [("LIMIT = 3", "LIMIT = 4"), ("number * 2", "number * 3"), ("OFFSET = 10", "OFFSET = 20"), ("number - 1", "1")]


def loaded(code, tmp_path, calls, version=None, name="module_of_cached"):
    """Return the class `Set` of a file with this code."""
    file = tmp_path / f"{name}.py"
    file.write_text(code)
    scope = {"__name__": name, "FOLDER": str(tmp_path / "kept"), "CALLS": calls, "VERSION": version}
    exec(compile(code, file, "exec"), scope)
    return scope["Set"]


def test_changed_source_never_gives_old_results(tmp_path):
    numbers = []
    first = loaded(MODULE, tmp_path, numbers)().value(3)
    assert loaded("\n# a comment\n" + MODULE, tmp_path, numbers)().value(3) == first
    assert numbers == [3]
    for change in OWN:
        assert MODULE.count(change[0]) == 1
        fresh = []
        values = [loaded(MODULE.replace(*change), tmp_path, fresh)().value(3) for _ in range(2)]
        assert values[0] == values[1] != first, change
        assert fresh == [3], change


def test_change_of_a_helper_or_a_global_needs_another_version(tmp_path):
    first = loaded(MODULE, tmp_path, [])().value(3)
    for index, change in enumerate(OTHER):
        numbers, code = [], MODULE.replace(*change)
        assert loaded(code, tmp_path, numbers)().value(3) == first
        assert numbers == []
        assert loaded(code, tmp_path, numbers, version=index)().value(3) != first
        assert numbers == [3]


def test_global_that_the_function_counts_with_makes_no_other_cache(tmp_path):
    numbers = [0]
    thing = loaded(MODULE.replace("CALLS.append(number)", "CALLS[0] += 1"), tmp_path, numbers)()
    for number in [*range(5)] * 3:
        thing.value(number)
    assert numbers == [5]
    assert len(list((tmp_path / "kept").glob("*.index"))) == 1


def test_same_source_in_two_modules_has_two_results(tmp_path):
    """Because their functions and globals may differ."""
    one = loaded(MODULE, tmp_path, [], name="one")().value(3)
    assert loaded(MODULE.replace("LIMIT = 3", "LIMIT = 4"), tmp_path, [], name="other")().value(3) == one + 1


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["train.py", "other.py"])
def test_children_of_a_script_have_its_results(tmp_path, calls, name):
    """There, `multiprocessing` assigns another name to the script. Another script has separate results."""
    for script in (name, "train.py"):
        (tmp_path / script).write_text(
            f"""
import multiprocessing, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
import mpqueue
@mpqueue.cached({str(tmp_path / "kept")!r})
def value(number):
    with open({str(calls)!r}, "a") as file:
        file.write(".")
    return number
if __name__ == "__main__":
    value(3)
    process = multiprocessing.get_context("spawn").Process(target=value, args=(3,))
    process.start()
    process.join()
    assert process.exitcode == 0
"""
        )
        subprocess.run([sys.executable, tmp_path / script], check=True)
    assert calls.take() == (1 if name == "train.py" else 2)


def test_function_without_readable_source_needs_a_key(tmp_path):
    @functools.wraps(math.sqrt)
    def root(number):
        return math.sqrt(number)

    scope = {"__name__": "of_a_string"}
    exec("def value(number): return number + 1", scope)
    for function, place in ((scope["value"], "<string>"), (root, "it wraps a builtin")):
        with pytest.raises(TypeError, match=rf"source of .* cannot be read \({place}.*write .* or pass key="):
            mpqueue.cached(tmp_path)(function)
    for version in range(2):
        kept = [mpqueue.cached(tmp_path, key=lambda _: version)(function) for function in (scope["value"], root)]
        assert [each(4) for each in kept] == [5, 2]
    assert len(list(tmp_path.glob("*.index"))) == 4


@pytest.mark.parametrize(
    "decorator",
    [
        lambda function: functools.wraps(function)(lambda *args: function(*args)),
        lambda function: lambda *args: function(*args),
    ],
)
def test_source_of_a_wrapped_function_counts(tmp_path, decorator):
    @mpqueue.cached(tmp_path)
    @decorator
    def value(number):
        return number + 1

    assert value(1) == 2

    @mpqueue.cached(tmp_path)
    @decorator
    def value(number):
        return number + 2

    assert value(1) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_parts_of_the_key_are_logged_once_in_a_process(tmp_path, calls, caplog, workers):
    caplog.set_level("INFO", "mpqueue")
    kind = set_class(tmp_path / "kept", calls, version=3)
    for size in (1, 2):
        kind(size=size).decoded(1)
        kind(size=size).decoded(2)
        assert len(batches_of(kind(size=size), batch_size=8, workers=workers)) == 5
    (text,) = [record.getMessage() for record in caplog.records if "cached: " in record.getMessage()]
    for part in ("Images.decoded", "attributes of Images: size", "variable 'calls'", "version=3", "not noticed"):
        assert part in text


def raises_in_try(number):
    try:
        text = str(number)
        return broken(text)
    except ValueError:
        return -1


def raises_after_try(number):
    try:
        text = str(number)
    except ValueError:
        return -1
    else:
        return broken(text)


def broken(text):
    raise ValueError(text)


def test_the_range_of_a_try_statement_counts(tmp_path):
    for function in (raises_in_try, raises_after_try):
        function.__name__ = function.__qualname__ = "value"
    assert mpqueue.cached(tmp_path)(raises_in_try)(1) == -1
    with pytest.raises(ValueError, match="1"):
        mpqueue.cached(tmp_path)(raises_after_try)(1)


def test_the_function_key_counts(tmp_path):
    def keyed(key):
        class Set:
            def __init__(self, one, other):
                self.one, self.other = one, other

            @mpqueue.cached(tmp_path, key=key)
            def value(self, number):
                return number, self.one, self.other

        return Set

    for key, second in ((lambda self: self.one, (0, 1, 2)), (lambda self: self.other, (0, 1, 3))):
        kind = keyed(key)
        assert [kind(1, 2).value(0), kind(1, 3).value(0)] == [(0, 1, 2), second]


def test_plain_data_in_closures_may_change_in_place(tmp_path):
    scale, table, config, long = 1, [1], {"scale": 1}, [1] * 20_000

    @mpqueue.cached(tmp_path)
    def scaled(number):
        return number * scale * table[0] * config["scale"] * long[0]

    def change(new_scale, new_item, of_config, of_long):
        nonlocal scale
        scale, table[0], config["scale"], long[0] = new_scale, new_item, of_config, of_long

    for numbers in ((1, 1, 1, 1), (2, 1, 1, 1), (2, 3, 1, 1), (2, 3, 5, 1), (2, 3, 5, 7), (1, 1, 1, 1)):
        change(*numbers)
        assert scaled(11) == 11 * math.prod(numbers)


def test_plain_defaults_count(tmp_path):
    def scaled_by(default, keyword):
        @mpqueue.cached(tmp_path)
        def scaled(number, more=default, *, by=keyword):
            return number * more[0] * by["scale"]

        return scaled

    for numbers in ((1, 1), (2, 1), (2, 3), (1, 1)):
        assert scaled_by([numbers[0]], {"scale": numbers[1]})(11) == 11 * math.prod(numbers)


def test_names_of_classes_are_told_apart(tmp_path):
    class Digits:
        @mpqueue.cached(tmp_path)
        def path(self, number):
            return f"{type(self).__name__}/{number}"

    class Letters(Digits):
        pass

    assert [Digits().path(0), Letters().path(0)] == ["Digits/0", "Letters/0"]


def test_first_result_is_a_private_copy_that_can_be_written(tmp_path):
    class Rows:
        def __init__(self):
            self.rows = np.arange(6).reshape(3, 2)

        @mpqueue.cached(tmp_path / "rows", key=lambda self: 0)
        def row(self, number):
            return self.rows[number:]

    @mpqueue.cached(tmp_path / "frozen")
    def frozen(number):
        return {"image": np.frombuffer(bytes([number] * 4), np.uint8)}

    rows = Rows()
    for _ in range(2):
        row, image = rows.row(1), frozen(7)["image"]
        assert (row.tolist(), image.tolist()) == ([[2, 3], [4, 5]], [7] * 4)
        row -= 100
        image += 1
    assert rows.rows.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_key_of_a_dataset_contains_cached_methods(tmp_path):
    def key(code):
        return fingerprint_of(Dataset(range(3)).map(loaded(code, tmp_path, [])().value).root)

    assert key(MODULE) == key(MODULE)
    assert key(MODULE) != key(MODULE.replace("number * 2", "number * 3"))


# -- Random numbers


GENERATOR = np.random.default_rng(0)


def test_generators_in_globals_defaults_closures_and_classes_are_noticed(tmp_path):
    @mpqueue.cached(tmp_path)
    def of_module(number):
        return random.random()

    @mpqueue.cached(tmp_path)
    def of_global(number):
        return GENERATOR.random()

    own = random.Random(3)

    @mpqueue.cached(tmp_path, key=lambda _: 1)
    def of_default(number, generator=own):
        return generator.random()

    class Set:
        generator = np.random.default_rng(1)

        @mpqueue.cached(tmp_path, key=lambda self: 1)
        def of_class(self, number):
            return self.generator.random()

    @mpqueue.cached(tmp_path, key=lambda _: 1)
    def of_closure(number):
        return own.random()

    for draw in (of_module, of_global, of_default, of_closure, Set().of_class):
        with pytest.raises(RuntimeError, match="has drawn random numbers"):
            draw(1)


def test_draw_of_another_thread_is_no_error(tmp_path):
    """The function is called again, and no code has drawn in that time."""
    begun, drawn, ends = threading.Event(), threading.Event(), threading.Event()

    def draw():
        begun.wait(DEADLOCK_S)
        random.random()
        drawn.set()
        ends.wait(DEADLOCK_S)

    @mpqueue.cached(tmp_path, key=lambda _: None)
    def doubled(number):
        begun.set()
        drawn.wait(DEADLOCK_S)
        return number * 2

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        assert doubled(3) == 6
    finally:
        ends.set()
        thread.join()


DRAWS = {
    "python": lambda self: random.random(),
    "numpy": lambda self: np.random.rand(),
    "torch": lambda self: float(importlib.import_module("torch").rand(1)),
    "mpqueue": lambda self: mpqueue.rng().random(),
    "held": lambda self: self.rng.random(),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("is_first", [False, True])
def test_draws_are_an_error(tmp_path, name, is_first):
    draw = DRAWS[name]
    if name == "torch":
        pytest.importorskip("torch")

    class Draws:
        def __init__(self):
            self.rng = np.random.default_rng(0)

        def __len__(self):
            return 4

        def __getitem__(self, index):
            before = 0 if is_first else draw(self)
            return self.drawn(index) + before + draw(self)

        @mpqueue.cached(tmp_path, key=lambda self: None)
        def drawn(self, index):
            return draw(self) if index == 2 else index

    with mpqueue.Loader(Draws(), workers=0, seed=1, batch_size=1) as loader:
        batches = iter(loader)
        for _ in range(2):
            next(batches)
        with pytest.raises(RuntimeError, match=r"drawn has drawn random numbers, .*draw in the caller"):
            next(batches)
        next(batches)
    assert [usage.stored for usage, _ in folder_usage(str(tmp_path))[0]] == [3]


def test_import_of_torch_is_no_draw(tmp_path):
    pytest.importorskip("torch")
    code = f"""
        import mpqueue, sys
        @mpqueue.cached({str(tmp_path)!r})
        def summed(number):
            import torch
            return float(torch.ones(number).sum())
        @mpqueue.cached({str(tmp_path)!r}, version=2)
        def drawn(number):
            import torch
            return float(torch.rand(number).sum())
        assert "torch" not in sys.modules
        try:
            drawn(3)
        except RuntimeError as error:
            assert "random numbers" in str(error)
        else:
            raise AssertionError
        assert summed(3) == 3
    """
    script = tmp_path / "script.py"
    for text in (code, code.replace("    drawn(3)", "    summed(3); drawn(3)")):
        script.write_text(textwrap.dedent(text))
        subprocess.run([sys.executable, script], check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})


def test_draws_of_threads_are_not_stored(tmp_path, calls, caplog):
    @mpqueue.cached(tmp_path / "kept")
    def drawn(number):
        calls.add()
        return random.random() if number == 1 else number

    results = []
    in_threads(lambda: results.extend([drawn(1), drawn(2), drawn(1), drawn(2)]))
    assert results[0] != results[2]
    assert calls.take() == 3
    (record,) = caplog.records
    assert "not stored" in record.getMessage()


# -- Processes, threads and pickles


class Module:
    """A class that other processes import."""

    folder = os.environ.get("TEST_CACHED_FOLDER", "/nowhere")
    path = os.environ.get("TEST_CACHED_CALLS", "")

    def __init__(self, size=4):
        self.size = size

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return self.decoded(index)

    @mpqueue.cached(folder)
    def decoded(self, index):
        Calls(self.path).add()
        return image(index, self.size)


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """Return `Module` of a copy of this module that uses a folder of the test."""
    monkeypatch.setenv("TEST_CACHED_FOLDER", str(tmp_path / "kept"))
    monkeypatch.setenv("TEST_CACHED_CALLS", str(tmp_path / "calls"))
    sys.path.insert(0, os.path.dirname(__file__))
    try:
        module = importlib.reload(importlib.import_module("test_cached"))
        yield module.Module
        vars(module.Module.decoded)["counts_of"].__self__._forget()  # closes the files
    finally:
        sys.path.pop(0)


def take_some(kind, numbers):
    images = kind()
    assert [images.decoded(number).tolist() for number in numbers] == [image(number).tolist() for number in numbers]


@pytest.mark.sample(1)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_two_jobs_call_it_once(shared, calls, method):
    for numbers in ([range(20), range(20, 40)], [range(10, 30), range(40)]):
        in_processes(take_some, [(shared, each) for each in numbers], method)
    assert calls.take() == 40


@pytest.mark.sample(2)
@pytest.mark.parametrize("options", [{"workers": 2}, {"workers": 0}, {"workers": 2, "backend": "thread"}], ids=str)
def test_loaders_call_it_once(tmp_path, calls, options):
    kind = set_class(tmp_path / "kept", calls)
    with mpqueue.Loader(kind(root="a"), batch_size=8, shuffle=True, seed=1, **options) as loader:
        for _ in range(3):
            assert sorted(int(row[0, 0, 0]) for batch in loader for row in batch) == list(range(40))
        (cache,) = loader.statistics().caches
    assert calls.take() == 40
    assert cache.name.endswith("Images.decoded")
    assert cache.stored == 40
    assert cache.hits >= 80
    assert cache.size_bytes > 40 * 48
    with mpqueue.Loader(kind(root="a"), batch_size=8, workers=2) as loader:  # another job
        assert len(list(loader)) == 5
    assert calls.take() == 0


def test_statistics_find_it_behind_the_stages_of_a_dataset(tmp_path, calls):
    images = set_class(tmp_path / "kept", calls)(root="a")
    mapped = Dataset.range(40).map(images.decoded)
    for source, options in (
        (Dataset(images).shuffle(block=5, blocks=2), {"batch_size": 8}),
        (Dataset(images).shuffle(), {"batch_size": 8}),
        (mapped, {"batch_size": 8}),
        (mapped.filter(np.any).shuffle(buffer=4).batch(8), {"lanes": 2}),
    ):
        with mpqueue.Loader(source, workers=2, seed=1, **options) as loader:
            assert sum(map(len, loader)) >= 39  # the first image is zero, and filtered
            (cache,) = loader.statistics().caches
        assert cache.name.endswith("Images.decoded")
        assert cache.stored == 40
    assert calls.take() == 40


def test_threads_of_a_worker_get_the_results(tmp_path, calls):
    images = set_class(tmp_path / "kept", calls)(root="a")
    with mpqueue.Loader(images, batch_size=8, workers=1, threads=3) as loader:
        for _ in range(3):
            assert [int(row[0, 0, 0]) for batch in loader for row in batch] == list(range(40))
    # The worker's own thread checks the generators by draws, so some results of the first batch may not be stored.
    assert 40 <= calls.take() < 60


@pytest.mark.parametrize("method", [None, "fork", "spawn"])
def test_torch_loaders_call_it_once(shared, calls, method):
    torch_data = pytest.importorskip("torch.utils.data")
    loader = torch_data.DataLoader(
        shared(), batch_size=8, shuffle=True, num_workers=0 if method is None else 2, multiprocessing_context=method
    )
    for _ in range(2):
        assert sorted(int(row[0, 0, 0]) for batch in loader for row in batch) == list(range(40))
    assert calls.take() == 40


def test_threads_call_it_and_get_private_results(tmp_path, calls):
    images = set_class(tmp_path / "kept", calls)()
    found = []
    in_threads(*[lambda: found.extend(images.decoded(number) for number in range(30))] * 3)
    assert len({id(each) for each in found}) == 90
    assert sorted(int(each[0, 0, 0]) for each in found) == sorted(3 * list(range(30)))
    assert 30 <= calls.take() <= 90
    for number in range(30):
        images.decoded(number)
    assert calls.take() == 0


def test_child_forked_from_a_thread_uses_the_same_cache(tmp_path, calls):
    images = set_class(tmp_path / "kept", calls)()
    images.decoded(1)
    fork = functools.partial(status_of_fork, lambda: [images.decoded(number) for number in range(3)] and 0)
    assert in_threads(fork) == [0]
    images.decoded(2)
    assert calls.take() == 3


def test_objects_and_functions_can_be_pickled(tmp_path, calls, shared):
    images = shared()
    images.decoded(1)
    copy = pickle.loads(pickle.dumps(images))
    copy.decoded(1)
    assert pickle.loads(pickle.dumps(shared.decoded)) is shared.decoded
    kind = set_class(tmp_path / "kept-2", calls)
    first = kind(size=1)
    first.decoded(1)
    assert calls.take() == 2
    by_value = pickle.loads(cloudpickle.dumps(first))
    assert by_value.decoded(1).tolist() == image(1).tolist()
    assert calls.take() == 0


def test_objects_are_collected(tmp_path, calls):
    images = set_class(tmp_path / "kept", calls)()
    images.decoded(1)
    reference = weakref.ref(images)
    del images
    gc.collect()
    assert reference() is None


def test_functions_static_methods_and_subclasses(tmp_path, calls):
    @mpqueue.cached(tmp_path / "kept")
    def plain(number):
        calls.add()
        return number

    class Set:
        @staticmethod
        @mpqueue.cached(tmp_path / "kept")
        def static(number):
            calls.add()
            return number + 1

        @mpqueue.cached(tmp_path / "kept")
        def method(self, number):
            calls.add()
            return number + 2

    class Sub(Set):
        def method(self, number):
            return super().method(number) + 10

    for _ in range(2):
        assert [plain(1), plain("a"), Set.static(1), Set().static(1), Set().method(1)] == [1, "a", 2, 2, 3]
        assert Sub().method(1) == 13
    assert calls.take() == 5  # the method of both classes has the same code, which may use the name of its class
    assert list(Dataset.range(3).map(plain)) == [0, 1, 2]


def test_errors_are_raised_and_not_stored(tmp_path):
    fails = [True]

    @mpqueue.cached(tmp_path, key=None)
    def now_and_then(number):
        if fails:
            raise OSError("a broken disk")
        return number

    for _ in range(2):
        with pytest.raises(OSError, match="a broken disk"):
            now_and_then(1)
    fails.clear()
    assert now_and_then(1) == 1


def test_result_that_cannot_be_pickled_raises_an_error_with_a_remedy(tmp_path):
    @mpqueue.cached(tmp_path)
    def locked(number):
        return threading.Lock()

    with pytest.raises(TypeError, match="pickle") as caught:
        locked(1)
    assert "return arrays and plain data" in "".join(caught.value.__notes__)


def test_many_states_keep_few_files_open(tmp_path, calls):
    images = set_class(tmp_path / "kept", calls)(count=0)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(60):
        images.count = number
        images.decoded(1)
    assert len(os.listdir("/proc/self/fd")) - before < 150


class Slots:
    __slots__ = ("size",)


@pytest.mark.parametrize(
    ("arguments", "function", "kind", "words"),
    [
        ({"folder": 3}, len, TypeError, "folder must be a path"),
        ({"max_bytes": "1 GB"}, len, ValueError, "max_bytes"),
        ({"version": threading.Lock()}, len, TypeError, "version contains a lock"),
        ({"key": 3}, len, TypeError, "key must be a function"),
        ({}, len, TypeError, "directly above def"),
        ({}, staticmethod(take_some), TypeError, "directly above def"),
        ({}, Slots, TypeError, "directly above def"),
    ],
)
def test_invalid_arguments_are_named(tmp_path, arguments, function, kind, words):
    with pytest.raises(kind, match=words):
        mpqueue.cached(**{"folder": tmp_path} | arguments)(function)


def test_generators_coroutines_contents_and_slots_are_refused(tmp_path):
    def items(number):
        yield number

    async def awaited(number):
        return number

    for function, words in ((items, "return a list"), (awaited, "async")):
        with pytest.raises(TypeError, match=words):
            mpqueue.cached(tmp_path)(function)

    class Small:
        __slots__ = ("size",)

        @mpqueue.cached(tmp_path)
        def value(self, number):
            return number + self.size

        @mpqueue.cached(tmp_path, key=lambda self: self.size)
        def keyed(self, number):
            return number + self.size

        def __init__(self, size):
            self.size = size

    class Words(list):
        @mpqueue.cached(tmp_path)
        def value(self, number):
            return self[number]

    for refused in (Small(2), Words("ab")):
        with pytest.raises(TypeError, match="not only in its __dict__: pass key="):
            refused.value(1)
    assert [Small(size).keyed(1) for size in (2, 3, 2)] == [3, 4, 3]


@pytest.mark.parametrize("kind", [property, functools.cached_property])
def test_property_is_made_of_a_cached_method(tmp_path, kind):
    with pytest.raises(TypeError, match=r"directly above def, below .* or @property"):
        mpqueue.cached(tmp_path)(kind(lambda self: 1))

    class Photo:
        def __init__(self, path):
            self.path = path

        decoded = kind(mpqueue.cached(tmp_path)(lambda self: len(self.path)))

    assert [Photo(path).decoded for path in ("a.jpg", "bc.jpg", "d.jpg")] == [5, 6, 5]
