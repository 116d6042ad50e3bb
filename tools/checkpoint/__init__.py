"""Checkpoint folders, shown and copied: `scripts/checkpoint`."""
