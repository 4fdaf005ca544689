"""The global generators in a stream that the caller computes itself: seeded for its samples only if one has drawn.

To seed them takes 3 us for each sample and stage, 6 where torch is imported, and most functions draw nothing. The
generators cannot wait for the first draw here as they do in a worker process: others draw from them, too. So an element
is computed without, and if one of them is not as it was before, once more, with all samples seeded, as are those of all
elements from then on. A lane is opened anew for that, from its last snapshot. So the functions are called twice for the
samples of one element at most; another thread that draws meanwhile costs the same, and changes no number.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from mpqueue.seeding.global_generators import GlobalState
from mpqueue.seeding.torch_rng import TorchNumbers
from mpqueue.system.interrupts import is_of_handler

T = TypeVar("T")


class CallersNumbers:
    """Tells whether the global generators are to be seeded.

    Args:
        torch: torch's.

    Attributes:
        is_due: They are to be seeded for each sample.
    """

    def __init__(self, torch: TorchNumbers) -> None:
        self.is_due = True
        self._torch = torch
        self._draws = False

    def each(self, compute: Callable[..., T], *arguments: Any) -> T:
        """Return what computes an element, and may be called again for it.

        Raises:
            Exception: What ``compute`` raised.
        """
        if self._draws:
            return compute(*arguments)
        before, of_torch = GlobalState(), self._torch.mark()
        raised: Exception | None = None
        try:
            self.is_due = False
            result = compute(*arguments)
        except Exception as error:
            if is_of_handler(error):
                raise
            raised = error
        finally:
            self.is_due = True
        if before.has_changed() or self._torch.mark() != of_torch:
            self._draws, result, raised = True, None, None  # type: ignore[assignment]  # they are computed again
            return compute(*arguments)
        if raised is not None:
            raise raised
        return result
