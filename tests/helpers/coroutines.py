"""Steps of coroutines in an event loop, in an order that does not depend on time."""

import asyncio

from helpers.computed_source import Computed


async def give_way(times=1):
    """Yield to the other tasks of the event loop, this number of times."""
    for _ in range(times):
        await asyncio.sleep(0)


class Awaited(Computed):
    """A source of items that a function computes in coroutines, each after a step of the others."""

    async def __getitem__(self, index):
        await give_way()
        return self.function(index)


async def end_out_of_order(index):
    """Wait for different numbers of steps in turn, so that samples end in another order than they begin."""
    await give_way(1 + index % 3 * 3)


async def until_cancelled():
    """Block until this task is cancelled."""
    await asyncio.Event().wait()
