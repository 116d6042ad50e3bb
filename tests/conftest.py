"""What all tests share: the servers' fixtures, and the figures that a run prints at its end."""

import signal

from hypothesis import settings

# A loaded machine is slow now and then; how long an example may take says nothing about the code.
settings.register_profile("repository", deadline=None, max_examples=60)
settings.load_profile("repository")

pytest_plugins = ["tests.closing", "tests.servers"]


def pytest_configure() -> None:
    """Begin with SIGINT: started in the background it is ignored, by every child too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
