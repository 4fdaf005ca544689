"""Classes of the script with ``__slots__``: in attributes of the source, and as samples and exceptions of workers."""

import pytest
from helpers.quiet_trainers import lines_of
from helpers.trainer_processes import ran

METHODS = pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
pytestmark = [pytest.mark.sample(1), pytest.mark.usefixtures("forked_trainers")]

SCRIPT = """
import abc, typing
from dataclasses import dataclass

class Rows:
    def __init__(self, *rows):
        self.rows, self.kinds = rows, [type(row) for row in rows]
    def __len__(self):
        return len(self.rows)
    def __getitem__(self, index):
        row = self.rows[index]
        return row.a, row.b.sum(), self.kinds[index](index, np.full(3, index))

def read(source, method):
    with Loader(source, batch_size=None, workers=1, start_method=method) as loader:
        return list(loader)

def check(kinds, method):
    source = Rows(*[kind(index, np.full(20000, index)) for index, kind in enumerate(kinds)])
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
class Documented:
    __slots__ = {"a": "the first", "b": "the second", "__dict__": "others"}
    def __init__(self, a, b):
        self.a, self.b, self.c = a, b, a
class Stated:
    __slots__ = ("a", "b")
    def __init__(self, a, b):
        self.a, self.b = a, b
    def __getstate__(self):
        return self.a, self.b
    def __setstate__(self, state):
        self.a, self.b = state
class Generic(typing.Generic[typing.TypeVar("T")]):
    __slots__ = ("a", "b")
    def __init__(self, a, b):
        self.a, self.b = a, b
class Abstract(abc.ABC):
    __slots__ = ("a",)
    @abc.abstractmethod
    def read(self): ...
class Concrete(Abstract):
    __slots__ = ("b",)
    def __init__(self, a, b):
        self.a, self.b = a, b
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
    said = lines_of(f"{SCRIPT}{KINDS}\ncheck(kinds, {method!r})\nsay(*[kind.__qualname__ for kind in kinds])")
    assert said[:-1] == said[-1].split()


@METHODS
def test_objects_of_attrs_are_the_same_in_workers_and_in_batches(method):
    pytest.importorskip("attrs")
    said = lines_of(f"""{SCRIPT}
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


METACLASS = """
import msgspec, warnings
class Sample(msgspec.Struct):
    a: int
    b: object
"""


@METHODS
def test_class_whose_metaclass_keeps_data_is_inherited_by_a_fork_or_named_in_the_error(method):
    pytest.importorskip("msgspec")
    script = f"{SCRIPT}{METACLASS}"
    if method == "fork":
        assert ran(f"{script}check([Sample], 'fork')")[0] == ["Sample"]
        return
    said, _ = ran(f"""{script}
try:
    check([Sample], {method!r})
except TypeError as error:
    say(error)
with Loader(Rows(Sample(7, np.ones(3))), batch_size=None, workers=1) as loader, warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)
    say([a for a, _, sample in loader if type(sample) is Sample])
""")
    assert "the class Sample has data of its metaclass StructMeta" in said[0]
    assert "Define the class in a module that worker processes can import" in said[0]
    assert 'start_method="fork"' in said[0]
    assert said[1] == "[7]"


def test_consumer_in_another_program_reads_objects_with_slots():
    said, _ = ran(f"""{SCRIPT}{KINDS}
import subprocess
server = mpqueue.Server(f"slots {{ITSELF}}", Rows(*[kind(3, np.full(2, 1)) for kind in kinds]), batch_size=None, workers=1)
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
