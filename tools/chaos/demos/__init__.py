"""Engines that are wrong on purpose, each in one thing; none of it is used by any other part."""
