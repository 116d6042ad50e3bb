"""Work that several processes share: units, who holds them, and how they change hands."""
