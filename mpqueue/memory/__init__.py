"""The data plane: who owns which bytes of a ring, and how a batch lies in them."""

import os

if os.name != "posix":
    raise ImportError(
        "mpqueue's workers share memory by descriptors that are passed over Unix sockets: they need Linux or macOS "
        f"(WSL on Windows), this is {os.name!r}"
    )
