"""The data plane: who owns which bytes of a ring, and how a batch lies in them."""
