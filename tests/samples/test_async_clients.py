"""Real asynchronous clients in a source: aiohttp against a local server, zarr 3, obstore, and another event loop."""

import asyncio
import sys

import numpy as np
import pytest
from helpers.coroutines import Awaited
from helpers.loader_runs import batches_of
from helpers.range_server import range_server

from mpqueue import Loader

NUMBERS = np.arange(240, dtype=np.int32).reshape(24, 10)


def rows_of(source, **options):
    with Loader(source, batch_size=4, workers=2, **options) as loader:
        return np.concatenate([np.array(batch) for batch in loader])


class Rows:
    """Rows of a place, through a client that each worker opens."""

    client = None

    def __init__(self, point):
        self.point = point

    def __len__(self):
        return len(NUMBERS)


class Answers(Rows):
    """Rows of a server, over one session for each worker."""

    async def __getitem__(self, index):
        import aiohttp

        if self.client is None:
            self.client = aiohttp.ClientSession()
        async with self.client.get(f"{self.point}/{index}") as answer:
            return np.frombuffer(await answer.read(), np.int32)

    async def aclose(self):
        await self.client.close()


def test_aiohttp_session_of_each_worker(capfd):
    pytest.importorskip("aiohttp")
    with range_server() as server:
        server.files |= {str(index): row.tobytes() for index, row in enumerate(NUMBERS)}
        assert (rows_of(Answers(server.url("")[:-1])) == NUMBERS).all()
    assert "Unclosed" not in capfd.readouterr().err


class Chunks(Rows):
    """Rows of a zarr array, which is opened in the worker."""

    async def __getitem__(self, index):
        from zarr.api.asynchronous import open_array

        if self.client is None:
            self.client = await open_array(store=self.point, mode="r")
        return (await self.client.getitem(slice(index, index + 1)))[0]


def test_zarr_reads_chunks(tmp_path):
    pytest.importorskip("zarr", "3")
    from zarr.api import asynchronous

    async def write(path):
        array = await asynchronous.create(store=path, shape=NUMBERS.shape, chunks=(5, 10), dtype="i4")
        await array.setitem(slice(None), NUMBERS)

    asyncio.run(write(str(tmp_path / "rows.zarr")))
    assert (rows_of(Chunks(str(tmp_path / "rows.zarr"))) == NUMBERS).all()


class Objects(Rows):
    """Rows of an object store."""

    async def __getitem__(self, index):
        from obstore.store import LocalStore

        if self.client is None:
            self.client = LocalStore(self.point)
        found = await self.client.get_async(str(index))
        return np.frombuffer(bytes(await found.bytes_async()), np.int32)


def test_obstore_reads_objects(tmp_path):
    pytest.importorskip("obstore")
    for index, row in enumerate(NUMBERS):
        (tmp_path / str(index)).write_bytes(row.tobytes())
    assert (rows_of(Objects(str(tmp_path))) == NUMBERS).all()


def loop_module(_):
    return type(asyncio.get_running_loop()).__module__


def _use_uvloop():
    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="the policies of event loops are deprecated")
def test_loop_of_the_policy_that_worker_init_sets_runs_the_coroutines():
    pytest.importorskip("uvloop")
    assert batches_of(Awaited(loop_module, 4), batch_size=4, workers=1, worker_init=_use_uvloop) == [["uvloop"] * 4]
