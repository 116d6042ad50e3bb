"""Kills the engine again and again under backlog, knows in which phase it died, and has the tables verified."""
