"""`python -m tools.api`: write docs/api.md, or say whether it is as the code is.

Owns: the command and the page.
Never: a row of a class by hand; settings, metrics and pages are in `tools.api.keys`.
"""

import importlib.util
import sys

import click

from services.settings import REPOSITORY
from tools.api.inventory import CLASSES
from tools.api.keys import KEYS, METRICS, PAGES
from tools.api.rows import Row, rows

PAGE = REPOSITORY / "docs" / "api.md"
_HEAD = """# The API

Every public name of PySpark 4.3's streaming classes, its RDD and its SparkContext, and what only Scala and Java have. Read from the code by
`python -m tools.api`:

- **local**: yes when the class has the name; *error* is a method that refuses in one sentence.
- **Spark**: streams and contexts of streams are the same classes over PySpark's own RDDs, so what is there on local is there; for RDD and
  SparkContext it is what PySpark's own class has. `pytest tests/engine -m spark` runs the shared suite on a real cluster.
- **difference**: what the docstring says, and how the call differs: read from both signatures. "also takes" are arguments that only ours has.
- **tests**: modules of the engine's tests that use the name. Names that other classes share, such as join, count those too.
"""


_TABLES = (
    ("Settings", "Key of Spark's", KEYS),
    ("Metrics", "Gauge of Spark's StreamingMetrics", METRICS),
    ("Pages", "REST resource of Spark's", PAGES),
)


def page() -> str:
    """The page."""
    parts = [_HEAD]
    for kind in CLASSES:
        found = rows(kind)
        done = {where: sum(getattr(row, where) == "yes" for row in found) for where in ("local", "spark")}
        parts.append(
            f"## {kind.title}\n\n{len(found)} operations; done on local {done['local']}, on Spark {done['spark']}.\n"
        )
        parts.append(
            "| Operation | PySpark 4.3 | local | Spark | difference, and why | tests |\n|---|---|---|---|---|---|"
        )
        parts += [_line(row) for row in found]
        parts.append("")
    for title, first, places in _TABLES:
        parts.append(f"## {title}\n\n| {first} | here |\n|---|---|")
        parts += [f"| `{name}` | {place} |" for name, place in places.items()]
        parts.append("")
    return "\n".join(parts)


def _line(row: Row) -> str:
    difference = row.difference.replace("|", "\\|")
    return f"| `{row.name}` | {row.origin} | {row.local} | {row.spark} | {difference} | {row.tests} |"


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit 1 when the page is not as the code is.")
def main(check: bool) -> None:
    """Write docs/api.md from the code and the tests.

    Needs the extra `spark`. Exit codes: 0 written or equal, 1 not equal, 2 refused.
    """
    if check:
        sys.exit(PAGE.read_text() != page())
    PAGE.write_text(page())


if __name__ == "__main__":
    if importlib.util.find_spec("pyspark") is None:
        sys.exit("pyspark is not installed; install the extra: pip install .[spark]")
    main()
