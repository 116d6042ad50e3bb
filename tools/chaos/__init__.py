"""Seeded faults on a running stack: each is proven to have had an effect, is healed, and is followed by verify."""
