"""The places of workers on nodes. Pure: no processes, no Ray.

A worker goes to the node that has the fewest, among those with room for one more; where none has room, to the one that
is the least crowded. Of equal nodes it is the first in the list. So the same nodes and numbers of workers always give
the same places, and workers are spread as evenly as the room of the nodes allows.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Room(NamedTuple):
    """A node and how many workers it has room for."""

    node: str
    workers: float


def around(own: str, nodes: Iterable[str]) -> list[str]:
    """Return nodes in the order in which a trainer fills them: its own one, those after it, and those before.

    Trainers on different nodes of one cluster, whose workers are fewer than the nodes, so begin with different ones.
    """
    return sorted(nodes, key=lambda node: (node != own, node < own, node))


def spread(num_workers: int, rooms: Sequence[Room]) -> list[str]:
    """Return the node of each worker; there must be one."""
    places: list[str] = []
    for _ in range(num_workers):
        places.append(best(places, rooms))
    return places


def best(places: Iterable[str], rooms: Sequence[Room]) -> str:
    """Return the node for one more worker; there must be one.

    Args:
        places: The nodes of the workers that there are; workers on other nodes than ``rooms`` do not count.
        rooms: The nodes to choose from.
    """
    load = Counter(places)
    free = [room for room in rooms if load[room.node] < room.workers]
    if free:
        return min(free, key=lambda room: load[room.node]).node
    return min(rooms, key=lambda room: (load[room.node] + 1) / max(room.workers, 1)).node


def moves(places: Mapping[int, str], rooms: Sequence[Room]) -> dict[int, str]:
    """Return the workers that are to move so that the nodes are evenly filled, each with its new node.

    As few as possible move, those with the highest numbers first.

    Args:
        places: The node of each worker, by its number.
        rooms: The nodes.
    """
    placed, moved = dict(places), dict[int, str]()
    while True:
        load = Counter(placed.values())
        crowded = max(rooms, key=lambda room: (_excess(load, room), load[room.node]))
        target = (
            best([node for node in placed.values() if node != crowded.node], _others(rooms, crowded))
            if len(rooms) > 1
            else crowded.node
        )
        room = next(room for room in rooms if room.node == target)
        has_room = load[target] < room.workers
        if not has_room or (load[crowded.node] - load[target] < 2 and not _excess(load, crowded)):
            return {number: node for number, node in moved.items() if places[number] != node}
        number = max(number for number, node in placed.items() if node == crowded.node)
        placed[number] = moved[number] = target


def _excess(load: Mapping[str, int], room: Room) -> float:
    """Return the number of workers for which a node has no room."""
    return max(0.0, load[room.node] - room.workers)


def _others(rooms: Sequence[Room], one: Room) -> list[Room]:
    return [room for room in rooms if room is not one]
