"""Seeding at the first draw gives what seeding at once gives, whatever user code does with the generators."""

import subprocess
import sys
import textwrap

import pytest

# In a process of its own: the generators of the tests' process are not to be exchanged.
PLAY = """
import _random
import ctypes
import random
import numpy as np
from mpqueue.worker import first_draw, sample_block
from mpqueue.seeding import global_generators

def draw_in_c():
    # Each way by which code in C draws from NumPy's generator.
    find = ctypes.pythonapi.PyCapsule_GetPointer
    find.restype, find.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    capsule = np.random.get_bit_generator().capsule
    bits = first_draw._Bits.from_address(find(capsule, b"BitGenerator"))
    kinds = {"raw": ctypes.c_uint64, "uint64": ctypes.c_uint64, "uint32": ctypes.c_uint32, "double": ctypes.c_double}
    return [ctypes.CFUNCTYPE(kind, ctypes.c_void_p)(getattr(bits, name))(bits.state) for name, kind in kinds.items()]

DRAWS = {
    "nothing": lambda: None,
    "NumPy's": lambda: np.random.rand(3).tolist(),
    "NumPy's integers": lambda: (np.random.randint(5), np.random.bytes(3), np.random.permutation(5).tolist()),
    "many of NumPy's": lambda: np.random.standard_normal(1000).sum(),
    "Python's": lambda: random.random(),
    "Python's bits": lambda: (random.getrandbits(40), random.choice("abcdef"), random.sample(range(99), 5)),
    "both": lambda: (random.gauss(0, 1), np.random.normal(), random.gauss(0, 1), np.random.normal()),
    "states": lambda: (random.getstate(), np.random.get_state()[1].tolist()),
    "Python's, seeded": lambda: (random.seed(5), random.random(), np.random.rand()),
    "NumPy's, seeded": lambda: (np.random.seed(5), random.random(), np.random.rand()),
    "NumPy's, set": lambda: (np.random.set_state(np.random.RandomState(3).get_state()), np.random.rand(), random.random()),
    "Python's, set": lambda: (random.setstate(random.Random(3).getstate()), np.random.rand(), random.random()),
    "Python's, only seeded": lambda: random.seed(5),
    "NumPy's, only seeded": lambda: np.random.seed(5),
    "Python's, only set": lambda: random.setstate(random.Random(3).getstate()),
    "Python's own, seeded": lambda: random.Random(5).gauss(0, 1),
    "own ones": lambda: (random.Random(3).random(), np.random.RandomState(4).rand(), random.random()),
    "one of the class in C": lambda: (_random.Random(3).random(), random.random()),
    "its bits, and its state": lambda: (_random.Random(3).getrandbits(9), _random.Random(3).getstate(), random.random()),
    "through NumPy's bits": lambda: np.random.Generator(np.random.get_bit_generator()).random(3).tolist(),
    "raw numbers": lambda: np.random.get_bit_generator().random_raw(3).tolist(),
    "in C": draw_in_c,
}

CURRENT = sample_block.CurrentSample()

def begin(seeder, number):
    CURRENT.of = 3, 1, number
    if not seeder.is_armed:
        seeder.begin()

def play(seeder):
    order = random.Random(7).choices([*DRAWS, *["nothing"] * len(DRAWS)], k=400)
    found = []
    for number, name in enumerate(order):
        begin(seeder, number)
        try:
            found.append((name, DRAWS[name]()))
        except ValueError as error:
            found.append((name, str(error)))
    return found
"""


def outside(code):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PLAY + textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


has_lock = pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="without the interpreter's lock all is seeded at once"
)


@has_lock
def test_whoever_draws_gets_the_same_numbers():
    assert outside("""
        seeder = first_draw.make_seeder(CURRENT)
        assert type(seeder) is first_draw.FirstDraw
        for one, other in zip(play(first_draw.AtOnce(CURRENT)), play(seeder), strict=True):
            assert one == other, (one, other)
        print("same")
    """) == ["same"]


@has_lock
def test_nothing_is_seeded_for_a_sample_that_draws_nothing():
    assert outside("""
        seeder, calls, seed = first_draw.make_seeder(CURRENT), [], global_generators.seed_globals
        global_generators.seed_globals = lambda *of: (calls.append(of), seed(*of))
        for number in range(10):
            begin(seeder, number)
        print(len(calls))
        random.random()
        print(*calls[-1])
    """) == ["1", "3", "1", "9"]


@has_lock
@pytest.mark.parametrize(
    ("call", "error"), [("random.getrandbits(-1)", "ValueError"), ("random.getrandbits('a')", "TypeError")]
)
def test_an_argument_that_is_refused_is_refused_as_ever(call, error):
    assert outside(f"""
        seeder = first_draw.make_seeder(CURRENT)
        for number in range(5):
            begin(seeder, number)
        assert seeder.is_armed
        try:
            {call}
        except {error}:
            print("refused")
    """) == ["refused"]


def test_a_python_that_keeps_its_generator_elsewhere_is_seeded_at_once():
    assert outside("""
        from mpqueue.seeding import twisters
        twisters.python_state = None
        assert type(first_draw.make_seeder(CURRENT)) is first_draw.AtOnce
        print("at once")
    """) == ["at", "once"]
