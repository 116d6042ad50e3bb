"""The smallest stack on which the pipeline runs."""

from pathlib import Path
from typing import Any

from services.settings import Settings


def small(folder: Path, **more: Any) -> Settings:
    """Settings of an embedded stack in one process, with topics of one partition and batches of a tenth of a second."""
    return Settings(
        stack="embedded",
        data_dir=folder,
        master="local",
        batch_seconds=0.1,
        ad_partitions=1,
        page_partitions=1,
        **more,
    )
