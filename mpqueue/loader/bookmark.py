"""`Bookmark`: a position of the loops over a loader, for frontends that take batches ahead of use."""

from typing import Any, NamedTuple

from mpqueue.engine.pipeline import Returned


class Bookmark(NamedTuple):
    """A position of the loops over a `mpqueue.Loader`.

    A frontend that takes batches before its user requests them stores the bookmark before each of them.

    Attributes:
        place: The position, as part of a state, for `Loader.state_at`.
        returned: The batch that the loops returned last, for `Loader.last_at`; None: none since a place was loaded.
    """

    place: dict[str, Any]
    returned: Returned | None
