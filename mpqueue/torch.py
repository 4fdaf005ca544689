"""torch: `DataLoader`, `install` and `prefetch`, on mpqueue's workers; the code is in `mpqueue.frameworks.torch`."""

from mpqueue.frameworks.torch import DataLoader, install, prefetch

__all__ = ["DataLoader", "install", "prefetch"]
