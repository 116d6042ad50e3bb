"""The plan of a task: a small tree of tuples with references to functions in place of functions; it is what travels to an executor.

Owns: the plan nodes, the ends of a stage, Task.
Never: an evaluation; `task.Runtime` does that.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Split(NamedTuple):
    """Leaf: the elements that the driver ships with the task, such as one offset range."""

    leaf: int


class Fetch(NamedTuple):
    """Leaf: what every map task wrote for this partition, in map order, merged by key when `merge` is given."""

    leaf: int
    merge: int | None


class Narrow(NamedTuple):
    """One narrow operator over its parent's partition of the same index."""

    parent: "Plan"
    kind: str
    function: int


class Combined(NamedTuple):
    """The parent's pairs combined by key, for pairs that are spread by key already."""

    parent: "Plan"
    create: int | None
    merge: int
    merge_combiners: int


class Group(NamedTuple):
    """The parents' pairs by key; the kind says what becomes of a key's values (see `grouping.KINDS`)."""

    parents: tuple["Plan", ...]
    kind: str


class Sorted(NamedTuple):
    """The parent's pairs sorted."""

    parent: "Plan"
    is_ascending: bool
    gives_pairs: bool
    """Whether the pairs are the result, or their values alone."""
    key: int | None
    """What to sort by, of a pair's key; the key itself when None."""


class Cached(NamedTuple):
    """The parent's elements, kept in this process after their first computation."""

    parent: "Plan"
    rdd: int
    is_on_disk: bool


class Located(NamedTuple):
    """The parent's partition of another index, for unions."""

    parent: "Plan"
    partition: int


class Chained(NamedTuple):
    """The parents' elements, one parent after the other."""

    parents: tuple["Plan", ...]


class Zipped(NamedTuple):
    """Pairs of the elements at equal places of both parents."""

    left: "Plan"
    right: "Plan"


class Product(NamedTuple):
    """Every pair of an element of the left parent and one of the right."""

    left: "Plan"
    right: "Plan"


Plan = Split | Fetch | Narrow | Combined | Group | Sorted | Cached | Located | Chained | Zipped | Product


class Collect(NamedTuple):
    """End of a job: the function of the partition's iterator, as the task's result."""

    function: int


class ShuffleWrite(NamedTuple):
    """End of a map stage: one bucket of pairs for each partition of the next stage."""

    name: str
    """Of the shuffle; its files are called so."""
    partitions: int
    partition: int | None
    """The partition of a key, modulo `partitions`; None when its hash decides."""
    create: int | None
    """Makes a combiner of a value; None when the value is the combiner (reduceByKey)."""
    merge: int | None
    """Merges a value into a combiner; None when nothing is combined (partitionBy)."""


class SpreadWrite(NamedTuple):
    """End of a map stage: the elements dealt out to the partitions of the next stage one by one."""

    name: str
    partitions: int


class RangeWrite(NamedTuple):
    """End of a map stage: the elements by ranges of what they sort by."""

    name: str
    partitions: int
    bounds: int
    """Leaf: the greatest key of each range but the last."""
    is_ascending: bool
    key: int | None
    """What an element sorts by; None when elements are pairs that sort by their keys."""


Write = ShuffleWrite | SpreadWrite | RangeWrite
End = Collect | Write


class Task(NamedTuple):
    """One partition of one stage."""

    plan: Plan
    partition: int
    inputs: Mapping[int, Any]
    """By leaf: the elements of a Split, the list of buckets of a Fetch, the bounds of a RangeWrite; see `shipped.unpacked`."""
    end: End
    stage: int = 0
    """Number of the stage in its context; a stage that runs again has another."""
    attempt: int = 0
    """A number that no other task of the context has."""
