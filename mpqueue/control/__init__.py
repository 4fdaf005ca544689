"""The control plane: what trainer and workers say to each other."""
