"""Shows the replicas of the engine and what they hold, and tells them what to do."""
