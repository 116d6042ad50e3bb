"""Names of the folders of a checkpoint: one component of a path each, whatever the thing is called.

Owns: folder_of_app, folder_of_operator.
Never: a folder.
"""

import os
import re
from typing import Final

from engine.checkpoint.files import checksum
from engine.errors import ConfigurationError

_LONGEST: Final = 200
"""Bytes of a name, which leaves room for what is put behind it when the folder is set aside."""
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")


def folder_of_app(app: str) -> str:
    """The application's own name where a folder can have it, else with what cannot stand in it as %XX.

    Raises:
        ConfigurationError: it is too long.

    Example:
        >>> folder_of_app("page views"), folder_of_app("a/../../b"), folder_of_app("..")
        ('page views', 'a%2F..%2F..%2Fb', '%2E%2E')
    """
    name = app.replace("/", "%2F").replace("\0", "%00")
    if name in {"", ".", ".."}:
        name = name.replace(".", "%2E") or "%"
    if len(os.fsencode(name)) > _LONGEST:
        raise ConfigurationError(
            f"appName {app!r:.60} is too long for the name of a folder; give one of at most {_LONGEST} bytes"
        )
    return name


def folder_of_operator(operator: str) -> str:
    """As much of the operator's name as people need, and its checksum: a lineage can be longer than a name may be.

    Example:
        >>> folder_of_operator("updateStateByKey(queue)").partition("queue_")[0]
        'updateStateByKey_'
    """
    return f"{_UNSAFE.sub('_', operator)[:80]}-{checksum(operator.encode()):016x}"
