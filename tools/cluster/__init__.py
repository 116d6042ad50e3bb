"""What the replicas of the engine would do, tried without them."""
