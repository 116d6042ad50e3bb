"""Tests of the stack in containers: its files, and the stack itself."""
