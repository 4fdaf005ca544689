"""The programs, one for each trainer, in the forms that are run."""

import importlib.util
import sys
from importlib import metadata
from typing import NamedTuple


class Entry(NamedTuple):
    """One program in one form.

    Attributes:
        trainer: Its name, for readers.
        program: Its module.
        variant: Its form.
        packages: It needs, beside mpqueue.
        feeds: It is run with: "mpqueue", or "own", which is what the trainer has without it.
        ranks: By part, where `torchrun` starts it; empty: it is started as it is.
        exact: Whether the run fed by mpqueue is to be exact.
    """

    trainer: str
    program: str
    variant: str
    packages: tuple[str, ...]
    feeds: tuple[str, ...] = ("own", "mpqueue")
    ranks: tuple[int, ...] = ()
    exact: bool = True

    @property
    def name(self) -> str:
        """Its name on the command line."""
        return f"{self.program.removeprefix('loop_')}: {self.variant}"

    def missing(self) -> list[str]:
        """Return the packages that are not installed."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]

    def versions(self) -> list[str]:
        """Return the packages with their versions."""
        return [f"{name} {metadata.version(name)}" for name in self.packages]

    def command(self, part: int) -> list[str]:
        """Return the command that starts a part; its task is to follow."""
        if not self.ranks:
            return [sys.executable, "-m", f"parts.trainers.{self.program}"]
        ranks = ["--standalone", f"--nproc-per-node={self.ranks[part]}"]
        return [sys.executable, "-m", "torch.distributed.run", *ranks, "-m", f"parts.trainers.{self.program}"]


_TORCHRUN = ("torchrun, a plain loop", "loop_torchrun")
_TRANSFORMERS = ("Hugging Face Trainer", "loop_transformers")
_ACCELERATE = ("Accelerate", "loop_accelerate")
_LIGHTNING = ("Lightning", "loop_lightning")
_FLAX = ("Flax and Optax", "loop_flax")
_KERAS = ("Keras 3", "loop_keras")
_OURS = ("mpqueue",)

ENTRIES = {
    entry.name: entry
    for entry in (
        Entry(*_TORCHRUN, "indexed", ("torch",), _OURS, (2, 1, 3)),
        Entry(*_TORCHRUN, "stream", ("torch",), _OURS, (2, 1, 3)),
        Entry(*_TRANSFORMERS, "map-style", ("torch", "transformers", "accelerate")),
        Entry(*_TRANSFORMERS, "map-style, state", ("torch", "transformers", "accelerate"), _OURS),
        Entry(*_TRANSFORMERS, "iterable", ("torch", "transformers", "accelerate"), exact=False),
        Entry(*_TRANSFORMERS, "iterable, state", ("torch", "transformers", "accelerate"), _OURS),
        Entry(*_TRANSFORMERS, "datasets", ("torch", "transformers", "accelerate", "datasets"), exact=False),
        Entry(*_TRANSFORMERS, "datasets, state", ("torch", "transformers", "accelerate", "datasets"), _OURS),
        Entry(*_ACCELERATE, "map-style", ("torch", "accelerate")),
        Entry(*_ACCELERATE, "map-style, stateful", ("torch", "accelerate", "torchdata")),
        Entry(*_ACCELERATE, "iterable", ("torch", "accelerate"), exact=False),
        Entry(*_ACCELERATE, "iterable, stateful", ("torch", "accelerate", "torchdata")),
        Entry(*_LIGHTNING, "by step", ("torch", "lightning")),
        Entry(*_LIGHTNING, "last step", ("torch", "lightning")),
        Entry(*_LIGHTNING, "by epoch", ("torch", "lightning")),
        Entry(*_LIGHTNING, "by step, ddp", ("torch", "lightning")),
        Entry(*_FLAX, "indexed", ("jax", "flax", "optax"), _OURS),
        Entry(*_FLAX, "stream", ("jax", "flax", "optax"), _OURS),
        Entry(*_KERAS, "by epoch", ("keras", "torch"), _OURS),
        Entry(*_KERAS, "by step", ("keras", "torch"), _OURS),
        Entry(*_KERAS, "by step, alone", ("keras", "torch"), _OURS, exact=False),
    )
}
