"""Golden data of released versions: orders, random numbers and states of 1.x hold in all later versions of 1.x.

A journal, a cache or a peer of another minor version is read, or refused with the documented error.
"""

import base64
import json
import random
import re
import warnings

import numpy as np
import pytest
from helpers.docstrings import names_of
from helpers.saved_states import CASES, take
from helpers.server_processes import RawConsumer, Refused

import mpqueue
from golden import released, released_pipelines
from mpqueue.errors import ServiceError
from mpqueue.service.protocol.handshake import Hello
from mpqueue.version import __version__

pytestmark = [pytest.mark.sample(4)]

MAJOR = __version__.partition(".")[0]
FOLDERS = sorted(path for path in released.HERE.iterdir() if re.fullmatch(rf"{MAJOR}\.\d+", path.name))
NEWEST = released.folder_of()
# A version may have fewer kinds of files than a later one.
DATA = {
    (folder, kind): released.read(folder, kind)
    for folder in FOLDERS for kind in released.KINDS if (folder / f"{kind}.json").exists()
}  # fmt: skip
ORDERS = [
    pytest.param(make, expected, id=f"{folder.name}-{kind}-{name}")
    for (folder, what), data in DATA.items() if what == "orders"
    for kind, table in (("indexed", released_pipelines.INDEXED), ("stream", released_pipelines.STREAMS))
    for name, expected in data[kind].items() for make in [table[name]]
]  # fmt: skip


def each(kind):
    """Return the golden data of a kind, by the entries of each version."""
    return [
        pytest.param(name, entry, id=f"{folder.name}-{name}")
        for (folder, what), data in DATA.items() if what == kind
        for name, entry in data.get("servers", data).items()
    ]  # fmt: skip


def folders_of(kind):
    return [pytest.param(folder, id=folder.name) for folder, what in DATA if what == kind]


def check_refusal(folder, error):
    """Raise the error, unless it refuses data of another minor version as documented."""
    if folder == NEWEST or "version" not in str(error):
        raise error


@pytest.mark.pure
def test_golden_data_of_this_version_is_complete():
    assert [kind for folder, kind in DATA if folder == NEWEST] == [*released.KINDS]
    orders = DATA[NEWEST, "orders"]
    assert {kind: [*table] for kind, table in orders.items()} == {
        "indexed": [*released_pipelines.INDEXED], "stream": [*released_pipelines.STREAMS],
    }  # fmt: skip


@pytest.mark.pure
@pytest.mark.parametrize(("name", "entry"), each("names"))
def test_public_names_of_the_release_still_exist(name, entry):
    assert {*entry} <= {*names_of(name)}


@pytest.mark.sample(12)
@pytest.mark.parametrize(("make", "expected"), ORDERS)
def test_order_and_random_numbers_are_those_of_the_release(make, expected):
    assert released.order_of(make) == expected


@pytest.mark.sample(12)
@pytest.mark.parametrize(("name", "entry"), each("states"))
def test_state_of_the_release_continues_with_the_same_batches(name, entry):
    name, _, world = name.rpartition(" of ")
    for rank, state in enumerate(entry["states"]):
        random.seed(99)
        with CASES[name].make(rank, int(world)) as loader, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the state is of rank", UserWarning)
            loader.load_state_dict(state)
            expected = entry["rests"][rank]
            assert released.shortened(take(loader, expected["number"])[0]) == expected


@pytest.mark.parametrize(("name", "entry"), each("torch"))
def test_state_of_a_torch_loader_continues_with_the_same_batches(name, entry):
    pytest.importorskip("torch")
    loader = released.torch_loaders()[name]()
    loader.load_state_dict(entry["states"][0])
    assert [released.shortened(iter(loader))] == entry["rests"]


@pytest.mark.parametrize(("name", "entry"), each("servers"))
def test_server_continues_with_the_journal_of_the_release(name, entry, tmp_path, request):
    folder = released.HERE / request.node.callspec.id.partition("-")[0]
    try:
        assert released.rest_of(name, base64.b64decode(entry["journal"]), tmp_path) == entry["rests"]
    except ServiceError as error:
        check_refusal(folder, error)


def test_journal_of_another_version_is_refused(tmp_path):
    journal = bytearray(base64.b64decode(DATA[NEWEST, "servers"]["servers"]["split"]["journal"]))
    journal[15] ^= 0x80  # the version of the format
    with pytest.raises(ServiceError, match=r"is not a journal of this version of mpqueue, .*\(version \d+\)"):
        released.rest_of("split", bytes(journal), tmp_path)


@pytest.mark.parametrize("folder", folders_of("servers"))
def test_greeting_of_the_release_is_accepted_or_refused(folder):
    hello = DATA[folder, "servers"]["hello"].encode()
    try:
        assert Hello.decode(hello) == Hello()
    except ServiceError as error:
        check_refusal(folder, error)


class OtherHello:
    """The greeting of a consumer of another version."""

    def encode(self):
        message = json.loads(DATA[NEWEST, "servers"]["hello"])
        return json.dumps(message | {"protocol": message["protocol"] + 1, "version": "1.99"}).encode()


def test_server_refuses_a_consumer_of_another_version(tmp_path):
    address = str(tmp_path / "s")
    with (
        mpqueue.Server(address, [1], workers=1),
        pytest.raises(Refused, match=r"got protocol \d+ \(mpqueue 1\.99\): install the same version of mpqueue"),
    ):
        RawConsumer(address, OtherHello())


def refused_item(value):
    raise LookupError(f"{value} is not in the cache")


@pytest.mark.parametrize("folder", folders_of("cache"))
def test_cache_of_the_release_is_read_or_filled_again(folder, tmp_path):
    data = DATA[folder, "cache"]
    released.write_cache(data["files"], tmp_path)
    # NumPy 1 cannot unpickle the arrays of NumPy 2: such elements are computed again.
    is_read = folder == NEWEST and not np.__version__.startswith("1.")
    function = refused_item if is_read else released.cached_item
    with mpqueue.Loader(released.cached(tmp_path, function), seed=released.SEED, workers=0) as loader:
        assert released.shortened(loader) == data["batches"]


def test_cache_of_another_version_is_not_read(tmp_path):
    data = DATA[NEWEST, "cache"]
    released.write_cache(
        {re.sub(r"^golden\.\d+", "golden.99", name): text for name, text in data["files"].items()}, tmp_path
    )
    with pytest.raises(LookupError), mpqueue.Loader(released.cached(tmp_path, refused_item), workers=0) as loader:
        next(iter(loader))
    with mpqueue.Loader(released.cached(tmp_path, released.cached_item), seed=released.SEED, workers=0) as loader:
        assert released.shortened(loader) == data["batches"]
