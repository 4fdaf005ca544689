"""The nodes of the deferred face: graphs, tensors, sessions."""
