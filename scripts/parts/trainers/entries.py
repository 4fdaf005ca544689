"""The programs, one for each trainer, in their variants."""

import importlib.util
import sys
from contextlib import suppress
from importlib import metadata
from typing import NamedTuple


class Entry(NamedTuple):
    """One variant of a program.

    Attributes:
        trainer: Name of the trainer, for readers.
        program: Module of the program.
        variant: Name of the variant.
        about: Description of the variant, for readers.
        packages: Packages that it needs in addition to mpqueue.
        feeds: Loaders to run with: "mpqueue", or "own" for the trainer's usual loader.
        ranks: Number of ranks of each part, if `torchrun` starts the program; otherwise empty.
        exact: Whether the run with mpqueue must be exact.
    """

    trainer: str
    program: str
    variant: str
    about: str
    packages: tuple[str, ...]
    feeds: tuple[str, ...] = ("own", "mpqueue")
    ranks: tuple[int, ...] = ()
    exact: bool = True

    @property
    def name(self) -> str:
        """Name on the command line."""
        return f"{self.program.removeprefix('loop_')}: {self.variant}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that the program needs: the backend of Keras."""
        return {"KERAS_BACKEND": self.packages[1]} if self.program == _KERAS[1] else {}

    def missing(self) -> list[str]:
        """Return the packages that are not installed."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]

    def versions(self) -> list[str]:
        """Return the packages with their versions."""
        names = (f"{name}_cpu" if name == "tensorflow" and not _is_there(name) else name for name in self.packages)
        return [f"{name} {metadata.version(name)}" for name in names]

    def command(self, part: int) -> list[str]:
        """Return the command that starts a part, without its task."""
        program = ["-m", "parts.trainers.recording", self.program]
        if not self.ranks:
            return [sys.executable, *program]
        ranks = ["--standalone", f"--nproc-per-node={self.ranks[part]}"]
        return [sys.executable, "-m", "torch.distributed.run", *ranks, *program]


def _is_there(name: str) -> bool:
    with suppress(metadata.PackageNotFoundError):
        return bool(metadata.version(name))
    return False


_TORCHRUN = ("`torchrun`", "loop_torchrun")
_TRANSFORMERS = ("Hugging Face `Trainer`", "loop_transformers")
_ACCELERATE = ("Accelerate", "loop_accelerate")
_LIGHTNING = ("Lightning", "loop_lightning")
_FLAX = ("Flax and Optax", "loop_flax")
_KERAS = ("Keras 3", "loop_keras")
_OURS = ("mpqueue",)

_TORCH, _HUGGING_FACE = ("torch",), ("torch", "transformers", "accelerate")
_DATASETS, _STATEFUL = (*_HUGGING_FACE, "datasets"), ("torch", "accelerate", "torchdata")
_ON_ACCELERATE, _ON_LIGHTNING, _ON_FLAX = ("torch", "accelerate"), ("torch", "lightning"), ("jax", "flax", "optax")
_BACKENDS = (("torch", "", "torch"), ("jax", ", jax", "JAX"), ("tensorflow", ", tensorflow", "TensorFlow"))
_SKIPS, _KEEPS = "`skip_first_batches`", "`use_stateful_dataloader=True`"

_ENTRIES = [
    Entry(*_TORCHRUN, "indexed", "2 ranks resumed on 1 and on 3, by index", _TORCH, _OURS, (2, 1, 3)),
    Entry(*_TORCHRUN, "stream", "2 ranks resumed on 1 and on 3, a stream", _TORCH, _OURS, (2, 1, 3)),
    Entry(*_TRANSFORMERS, "map-style", "by index", _HUGGING_FACE),
    Entry(*_TRANSFORMERS, "map-style, state", "by index, with the callback", _HUGGING_FACE, _OURS),
    Entry(*_TRANSFORMERS, "iterable", "iterable-style, as it is", _HUGGING_FACE, exact=False),
    Entry(*_TRANSFORMERS, "iterable, state", "iterable-style, with the callback", _HUGGING_FACE, _OURS),
    Entry(*_TRANSFORMERS, "datasets", "`datasets`, as it is", _DATASETS, exact=False),
    Entry(*_TRANSFORMERS, "datasets, state", "`datasets`, repeated, with the callback", _DATASETS, _OURS),
    Entry(*_ACCELERATE, "map-style", f"by index, {_SKIPS}", _ON_ACCELERATE),
    Entry(*_ACCELERATE, "map-style, stateful", f"by index, {_KEEPS}", _STATEFUL),
    Entry(*_ACCELERATE, "iterable", f"iterable-style, {_SKIPS}", _ON_ACCELERATE, exact=False),
    Entry(*_ACCELERATE, "iterable, stateful", f"iterable-style, {_KEEPS}", _STATEFUL),
    Entry(*_LIGHTNING, "by step", "checkpoints by step", _ON_LIGHTNING),
    Entry(*_LIGHTNING, "last step", "in the last step of an epoch", _ON_LIGHTNING),
    Entry(*_LIGHTNING, "by epoch", "by epoch", _ON_LIGHTNING),
    Entry(*_LIGHTNING, "by step, ddp", "2 ranks of DDP, by step", _ON_LIGHTNING),
    Entry(*_LIGHTNING, "last step, ddp", "2 ranks of DDP, in the last step of an epoch", _ON_LIGHTNING),
    Entry(*_LIGHTNING, "by epoch, ddp", "2 ranks of DDP, by epoch", _ON_LIGHTNING),
    Entry(*_FLAX, "indexed", "by index", _ON_FLAX, _OURS),
    Entry(*_FLAX, "stream", "a stream", _ON_FLAX, _OURS),
    *(
        Entry(*_KERAS, f"{kind}{suffix}", f"on {about}, with the class, {kind}", ("keras", backend), _OURS)
        for backend, suffix, about in _BACKENDS
        for kind in ("by epoch", "by step")
    ),
    Entry(*_KERAS, "by step, alone", "on torch, `BackupAndRestore` alone", ("keras", "torch"), _OURS, exact=False),
]
ENTRIES = {entry.name: entry for entry in _ENTRIES}
