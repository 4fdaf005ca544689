"""torch: `DataLoader`, `install` and `prefetch`, on mpqueue's workers; `to_nested` and `to_padded` convert batches.

The code is in `mpqueue.frameworks.torch`.
"""

from mpqueue.frameworks.torch import DataLoader, install, prefetch, to_nested, to_padded

__all__ = ["DataLoader", "install", "prefetch", "to_nested", "to_padded"]
