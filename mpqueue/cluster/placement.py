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
    while (move := _next_move(placed, rooms)) is not None:
        number, node = move
        placed[number] = moved[number] = node
    return {number: node for number, node in moved.items() if places[number] != node}


def _next_move(placed: Mapping[int, str], rooms: Sequence[Room]) -> tuple[int, str] | None:
    """Return the worker that is to leave the most crowded node, and its new node; None: all is even."""
    if len(rooms) < 2:
        return None
    load = Counter(placed.values())
    crowded = max(rooms, key=lambda room: (_excess(load, room), load[room.node]))
    others = {room.node: room for room in rooms if room is not crowded}
    target = best(placed.values(), list(others.values()))
    is_even = load[crowded.node] - load[target] < 2 and not _excess(load, crowded)
    if is_even or load[target] >= others[target].workers:
        return None
    return max(number for number, node in placed.items() if node == crowded.node), target


def _excess(load: Mapping[str, int], room: Room) -> float:
    """Return the number of workers for which a node has no room."""
    return max(0.0, load[room.node] - room.workers)
