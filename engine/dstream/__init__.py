"""The graph of streams: the handle that users chain, its nodes, and what they do with state."""
