"""Classes and functions of the script: pickled by code in a worker, and with ``__slots__`` in sources and batches."""

import importlib
import subprocess
import sys

import pytest
from helpers.quiet_trainers import lines_of
from helpers.trainer_processes import ran

from mpqueue.memory.main_module import is_findable

FRESH = pytest.mark.parametrize("method", ["forkserver", "spawn"])
METHODS = pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
pytestmark = [pytest.mark.sample(1), pytest.mark.usefixtures("forked_trainers")]

SCRIPT = """
import enum, functools, multiprocessing, pickle, typing
from collections import namedtuple
from dataclasses import dataclass
@dataclass
class Record:
    value: int
class Outer:
    class Inner:
        pass
    @staticmethod
    def doubled(value):
        return 2 * value
class Color(enum.Enum):
    RED = 1
Point = namedtuple("Point", "x y")
def doubled(value):
    return 2 * value
@functools.lru_cache(maxsize=8)
def cached(value):
    return 2 * value
Number = typing.NewType("Number", int)
@functools.singledispatch
def depth(value):
    return 0
@depth.register
def _(value: list):
    return 1 + depth(value[0])
class Rows:
    def __init__(self, rows, *uses):
        self.rows, self.uses = [pickle.dumps(row) for row in rows], uses
    def __len__(self):
        return len(self.rows)
    def __getitem__(self, index):
        value = pickle.loads(self.rows[index])
        return pickle.dumps(value) == self.rows[index], value
def read(source, method, workers=1):
    with Loader(source, batch_size=None, workers=workers, start_method=method) as loader:
        return list(loader)
"""


@METHODS
def test_worker_pickles_and_unpickles_what_its_source_refers_to(method):
    said = lines_of(f"""{SCRIPT}
rows = [Record(1), Outer.Inner(), Color.RED, Point(1, 2), doubled, Outer.doubled, cached, Number, depth]
uses = [Record, Outer.Inner, Color, Point, doubled, Outer.doubled, cached, Number, depth]
for (is_equal, value), row in zip(read(Rows(rows, *uses), {method!r}), rows):
    say(is_equal, type(value) is type(row))
for function, value in ((cached, 2), (depth, [[2]])):
    say(function(value), read(Rows([function], function), {method!r})[0][1](value))
""")
    assert said == [*["True True"] * 9, "4 4", "2 2"]


@pytest.mark.slow
@FRESH
def test_children_of_a_worker_have_the_names_of_its_source(method):
    said = lines_of(f"""{SCRIPT}
class Pooling(Rows):
    def __getitem__(self, index):
        with multiprocessing.get_context("fork").Pool(1) as pool:
            return pool.map(doubled, [1, 2]), pool.map(Record, [3]) == [Record(3)]
class Nesting(Rows):
    def __getitem__(self, index):
        return read(Rows([Record(4)], Record), "forkserver")
say(read(Pooling([0]), {method!r}))
say(read(Nesting([0]), {method!r}) == [[(True, Record(4))]])
""")
    assert said == ["[([2, 4], True)]", "True"]


@FRESH
def test_worker_has_only_the_names_of_the_present_source(method):
    said, _ = ran(f"""{SCRIPT}
class Listing(Rows):
    def __getitem__(self, index):
        names = {{name for name in vars(sys.modules["__main__"]) if not name.startswith("__")}}
        return sorted(names & {{"Record", "Outer", "Point", "gc", "f"}})
source = Listing([0], Record, Outer.Inner)
with Loader(source, batch_size=None, workers=1, start_method={method!r}) as loader:
    say(*loader)
    source.uses = Point,
    say(*loader)
say(read(Listing([0], Outer), {method!r}))
""")
    assert said == ["['Outer', 'Record']", "['Point']", "[['Outer']]"]


@FRESH
def test_batch_of_a_class_that_has_lost_its_name_is_of_that_class(method):
    said, _ = ran(f"""{SCRIPT}
Old = Record
with Loader(Rows([Record(1), Record(2)], Record), batch_size=None, workers=1, start_method={method!r}) as loader:
    batches = iter(loader)
    say(type(next(batches)[1]) is Old)
    @dataclass
    class Record:
        value: int
    say(type(next(batches)[1]) is Old)
say(type(read(Rows([Record(3)], Record), {method!r})[0][1]) is Record)
""")
    assert said == ["True"] * 3


@FRESH
def test_name_that_the_source_does_not_refer_to_is_explained(method):
    said, _ = ran(f"""{SCRIPT}
try:
    read(Rows([Record(1)]), {method!r})
except AttributeError as error:
    say(error)
""")
    assert said[0].startswith("Can't get attribute 'Record' on <module '__main__' of a worker: it has only the classes")


@FRESH
def test_worker_has_the_names_of_a_module_that_it_cannot_import(method):
    said = lines_of(f"""{SCRIPT}
import types
made = sys.modules["made"] = types.ModuleType("made")
exec("class Made: pass\\ndef tripled(value): return 3 * value", vars(made))
rows = [made.Made(), made.tripled]
for (is_equal, value), row in zip(read(Rows(rows, *rows), {method!r}), rows):
    say(is_equal, type(value) is type(row))
say(read(Rows([0]), {method!r}))
""")
    assert said == ["True True", "True True", "[(True, 0)]"]


@FRESH
@pytest.mark.parametrize("name", ["config", "config.base", "other", "package", "package.part"])
def test_module_loaded_by_its_path_is_the_same_in_workers_whatever_its_name_finds(method, name, tmp_path):
    """Its name is the name of a folder, no file, a different file, a package, and a different file in a package."""
    for file in ["config/base.py", "other.py", "package/__init__.py", "package/part.py"]:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("class Data: origin = 'found'")
    said = lines_of(f"""{SCRIPT}
import importlib.util, pathlib
sys.path.insert(0, {str(tmp_path)!r})
import package
for version in "first", "second":
    path = pathlib.Path({str(tmp_path)!r}, f"{{version}}.py")
    path.write_text(f"class Data:\\n  def read(self): return {{version!r}}")
    spec = importlib.util.spec_from_file_location({name!r}, path)
    module = sys.modules[{name!r}] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    class Reads(Rows):
        def __getitem__(self, index):
            return self.uses[index].read()
    say(read(Reads([0], module.Data()), {method!r}))
""")
    assert said == ["['first']", "['second']"]


@FRESH
def test_module_that_a_worker_can_import_is_imported(method, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "space").mkdir()  # without `__init__.py`
    (tmp_path / "link.py").symlink_to(tmp_path / "package" / "part.py")
    for file in ["package/part.py", "space/part.py"]:
        (tmp_path / file).write_text("import os\nPID = os.getpid()\nclass Data:\n  def read(self): return PID")
    said = lines_of(f"""{SCRIPT}
sys.path.insert(0, {str(tmp_path)!r})
import package.part, space.part, link
class Reads(Rows):
    def __getitem__(self, index):
        return self.uses[index].read()
uses = [package.part.Data(), space.part.Data(), link.Data()]
say([pid != ITSELF for pid in read(Reads([0] * 3, *uses), {method!r})])
""")
    assert said == ["[True, True, True]"]  # the module has run again, in another process


@pytest.mark.slow
@FRESH
def test_worker_of_a_child_of_multiprocessing_has_the_names_of_the_script(method, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"""
import multiprocessing, pickle, mpqueue
class Record:
    pass
class Rows:
    def __init__(self, *rows):
        self.rows = rows
    def __len__(self):
        return len(self.rows)
    def __getitem__(self, index):
        return pickle.dumps(Record), type(pickle.loads(self.rows[index])) is Record
def train(row):
    with mpqueue.Loader(Rows(row), batch_size=None, workers=1, start_method={method!r}) as loader:
        for dumped, is_record in loader:
            print(pickle.loads(dumped) is Record, is_record)
if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=train, args=(pickle.dumps(Record()),))
    child.start()
    child.join()
""")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"


@FRESH
def test_key_of_a_sample_can_be_pickled_in_a_worker(method):
    said, _ = ran(f"""{SCRIPT}
class Keyed(Numbers):
    def __getitem__(self, key):
        return pickle.loads(pickle.dumps(key)) == key
with Loader(Keyed(2), sampler=[Point(1, 2), Point(3, 4)], batch_size=2, workers=1, start_method={method!r}) as loader:
    say([batch.tolist() for batch in loader])
""")
    assert said == ["[[True, True]]"]


def test_modules_of_the_standard_library_can_be_imported_in_workers():
    """Also modules that a package loads under another name, as Python 3.13 does with ``collections.abc``."""
    for name in ("collections.abc", "importlib.abc", "os.path", "concurrent.futures", "xml.etree.ElementTree"):
        assert is_findable(importlib.import_module(name)), name


def test_module_that_its_package_has_renamed_can_be_imported_in_workers(tmp_path, monkeypatch):
    (tmp_path / "renaming").mkdir()
    (tmp_path / "renaming" / "__init__.py").write_text("""if True:
        import sys, hidden_part
        hidden_part.__name__ = "renaming.part"
        sys.modules["renaming.part"] = hidden_part
    """)
    for path in ("hidden_part.py", "renaming/part.py"):
        (tmp_path / path).touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("renaming", "renaming.part", "hidden_part"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.import_module("renaming")
    assert is_findable(sys.modules["renaming.part"])


OBJECTS = f"""{SCRIPT}
import abc
class Objects(Rows):
    def __init__(self, *rows):
        self.rows, self.kinds = rows, [type(row) for row in rows]
    def __getitem__(self, index):
        row = self.rows[index]
        return row.a, row.b.sum(), self.kinds[index](index, np.full(3, index))
def check(kinds, method):
    source = Objects(*[kind(index, np.full(20000, index)) for index, kind in enumerate(kinds)])
    for index, (kind, (a, total, sample)) in enumerate(zip(kinds, read(source, method))):
        held = a == index and total == 20000 * index
        if held and type(sample) is kind and sample.a == index and sample.b.sum() == 3 * index:
            say(kind.__qualname__)
"""

KINDS = """
@dataclass(slots=True)
class Data:
    a: int
    b: object
@dataclass(slots=True, frozen=True)
class Frozen:
    a: int
    b: object
@dataclass(slots=True, weakref_slot=True)
class Weak:
    a: int
    b: object
class Private:
    __slots__ = ("a", "__b")
    def __init__(self, a, b):
        self.a, self.__b = a, b
    b = property(lambda self: self.__b)
class Derived(Private):
    __slots__ = ()
class Extended(Private):
    def __init__(self, a, b):
        super().__init__(a, b)
        self.c = a
class OneString(Private):
    __slots__ = "c"
class Pair:
    __slots__ = ()
    def __init__(self, a, b):
        self.a, self.b = a, b
class Documented(Pair):
    __slots__ = {"a": "the first", "b": "the second", "__dict__": "others"}
class Stated(Pair):
    __slots__ = ("a", "b")
    def __getstate__(self):
        return self.a, self.b
    def __setstate__(self, state):
        self.a, self.b = state
class Generic(Pair, typing.Generic[typing.TypeVar("T")]):
    __slots__ = ("a", "b")
class Abstract(abc.ABC):
    __slots__ = ("a",)
    @abc.abstractmethod
    def read(self): ...
class Concrete(Pair, Abstract):
    __slots__ = ("b",)
    def read(self): ...
class Outer:
    @dataclass(slots=True)
    class Inner:
        a: int
        b: object
class Named(typing.NamedTuple):
    a: int
    b: object
class NamedToo(Named):
    __slots__ = ()
kinds = [Data, Frozen, Weak, Private, Derived, Extended, OneString, Documented, Stated, Generic, Concrete, Outer.Inner,
         Named, NamedToo]
"""


@METHODS
def test_objects_with_slots_are_the_same_in_workers_and_in_batches(method):
    said = lines_of(f"{OBJECTS}{KINDS}\ncheck(kinds, {method!r})\nsay(*[kind.__qualname__ for kind in kinds])")
    assert said[:-1] == said[-1].split()


@METHODS
def test_objects_of_attrs_are_the_same_in_workers_and_in_batches(method):
    pytest.importorskip("attrs")
    said = lines_of(f"""{OBJECTS}
import attrs, functools
@attrs.define
class Plain:
    a: int
    b: object
@attrs.frozen
class Frozen:
    a: int
    b: object
@attrs.define
class Derived(Plain):
    b: object
    c: int = 3
    @functools.cached_property
    def twice(self):
        return 2 * self.a
check([Plain, Frozen, Derived], {method!r})
""")
    assert said == ["Plain", "Frozen", "Derived"]


@METHODS
def test_source_of_a_class_with_slots_is_read(method):
    said, _ = ran(f"""{SCRIPT}
@dataclass(slots=True)
class Squares:
    length: int
    def __len__(self):
        return self.length
    def __getitem__(self, index):
        return index * index
say(read(Squares(3), {method!r}))
""")
    assert said == ["[0, 1, 4]"]


@METHODS
def test_exception_with_slots_keeps_their_values(method):
    said, _ = ran(f"""{SCRIPT}
class Missing(Exception):
    __slots__ = ("path", "line", "unset")
    def __init__(self, path, line=None):
        super().__init__(path)
        self.path, self.line = path, line
class Reduced(Missing):
    def __reduce__(self):
        return Reduced, (self.path, self.line)
class Raising(Numbers):
    def __getitem__(self, index):
        raise (Missing, Reduced)[index]("a.png", 3)
with Loader(Raising(2), workers=1, start_method={method!r}) as loader:
    batches = iter(loader)
    for kind in Missing, Reduced:
        try:
            next(batches)
        except Missing as error:
            say(type(error) is kind, error.path, error.line, error, hasattr(error, "unset"))
""")
    assert said == ["True a.png 3 a.png False"] * 2


@METHODS
def test_class_whose_metaclass_keeps_data_is_inherited_by_a_fork_or_named_in_the_error(method):
    pytest.importorskip("msgspec")
    script = f"""{OBJECTS}
import msgspec, warnings
class Sample(msgspec.Struct):
    a: int
    b: object
"""
    if method == "fork":
        assert ran(f"{script}check([Sample], 'fork')")[0] == ["Sample"]
        return
    said, _ = ran(f"""{script}
try:
    check([Sample], {method!r})
except TypeError as error:
    say(error)
with Loader(Objects(Sample(7, np.ones(3))), batch_size=None, workers=1) as loader, warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)
    say([a for a, _, sample in loader if type(sample) is Sample])
""")
    assert "the class Sample has data of its metaclass StructMeta" in said[0]
    assert "Define the class in a module that worker processes can import" in said[0]
    assert 'start_method="fork"' in said[0]
    assert said[1] == "[7]"


def test_consumer_in_another_program_reads_objects_with_slots():
    said, _ = ran(f"""{OBJECTS}{KINDS}
import subprocess
server = mpqueue.Server(f"slots {{ITSELF}}", Objects(*[kind(3, np.full(2, 1)) for kind in kinds]), batch_size=None, workers=1)
code = '''
import sys, mpqueue
with mpqueue.attach(sys.argv[1], timeout=50) as consumer:
    for a, total, sample in consumer:
        print(sample.a, sample.b.tolist())
'''
with server:
    done = subprocess.run([sys.executable, "-c", code, f"slots {{ITSELF}}"], capture_output=True, text=True)
say(len(kinds), done.stderr)
for line in done.stdout.splitlines():
    say(line)
""")
    assert said == ["14 ", *[f"{index} {[index] * 3}" for index in range(14)]]
