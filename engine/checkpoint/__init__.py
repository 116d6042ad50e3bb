"""What is on the volume: the journal, the shards of state and their snapshots."""
