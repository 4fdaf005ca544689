"""torch: `DataLoader` and `install`, on mpqueue's workers; the code is in `mpqueue.frameworks.torch`."""

from mpqueue.frameworks.torch import DataLoader, install

__all__ = ["DataLoader", "install"]
