"""What a `Coordinator` is made of: members, cancellation, and its proxies in other processes."""
