"""The version of the project, for whatever tells it.

It runs from its folder as well as installed, so no package's metadata is asked; a test holds it equal to pyproject.toml.

Owns: VERSION.
Never: anything else.
"""

from typing import Final

VERSION: Final = "0.1.0"
"""As in pyproject.toml."""
