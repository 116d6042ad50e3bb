"""The engine of the settings: one process with all jobs, or a replica of several.

Owns: the choice.
Never: anything else; main.py and replica.py are the two.
"""

import sys

from services.pipeline import main, replica
from services.settings import exit_code, load_settings


def engine() -> int:
    """Be what ENGINES says."""
    return replica.run() if load_settings().engines > 1 else main.run(takeover=False)


if __name__ == "__main__":
    sys.exit(exit_code(engine))
