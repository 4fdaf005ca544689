"""The first words between the trainer and an agent, which travel through Ray."""

from typing import NamedTuple


class AgentTerms(NamedTuple):
    """Instructions for an agent: where its trainer listens, and what it is to be like.

    Attributes:
        address: Where the trainer listens.
        token: By which both prove who they are.
        number: Of this agent's link, to be said behind that.
        path: The trainer's `sys.path`: folders that are on this machine, too, are looked into last.
        cwd: The trainer's working directory.
        hash_seed: Of the interpreters of workers: sets of text have one order in all of them.
        spawn: Each worker is to be an interpreter of its own.
        deadline_s: The agent says something at least every third of this.
    """

    address: tuple[str, int]
    token: bytes
    number: int
    path: list[str]
    cwd: str
    hash_seed: str
    spawn: bool
    deadline_s: float
