"""The functions that the programs use: of modules, so that both sides ship them by name, and their names can be printed.

Owns: the functions.
Never: state.
"""

from collections.abc import Iterable, Iterator
from typing import Any


def increment(number: int) -> int:
    """The next number."""
    return number + 1


def negate(number: int) -> int:
    """The number below zero, or above."""
    return -number


def is_even(number: int) -> bool:
    """Whether the number is even."""
    return number % 2 == 0


def thrice(number: int) -> list[int]:
    """The number and the two after it."""
    return [number, number + 1, number + 2]


def as_many(number: int) -> range:
    """As many numbers as a small part of the number says, from 0."""
    return range(number % 3)


def total(numbers: Iterable[int]) -> list[int]:
    """The sum of a partition."""
    return [sum(numbers)]


def evens(numbers: Iterator[int]) -> Iterator[int]:
    """The even numbers of a partition."""
    return (number for number in numbers if number % 2 == 0)


def with_index(index: int, numbers: Iterator[int]) -> Iterator[int]:
    """Each number and a hundred for the partition's index."""
    return (100 * index + number for number in numbers)


def length(elements: list[Any]) -> int:
    """The number of elements."""
    return len(elements)


def keyed(number: int) -> tuple[int, int]:
    """The number under one of four keys."""
    return (number % 4, number)


def named(number: int) -> tuple[str, int]:
    """The number under one of three names."""
    return ("abc"[number % 3], number)


def oddly_keyed(number: int) -> tuple[Any, int]:
    """The number under a key of many a kind: None, a tuple, a float that equals an int, a bool that does, text that looks like it."""
    keys: tuple[Any, ...] = (None, (1, "x"), 1.0, True, 1, "1", 0, -0.0)
    return (keys[number % len(keys)], number)


def swap(pair: tuple[Any, Any]) -> tuple[Any, Any]:
    """The value as the key."""
    return (pair[1], pair[0])


def value_of(pair: tuple[Any, int]) -> int:
    """The pair's value."""
    return pair[1]


def is_kept(pair: tuple[Any, int]) -> bool:
    """Whether the value is not 0."""
    return pair[1] != 0


def listed(value: int) -> list[int]:
    """The value as a list."""
    return [value]


def with_value(values: list[int], value: int) -> list[int]:
    """The list, changed in place."""
    values.append(value)
    return values


def with_values(left: list[int], right: list[int]) -> list[int]:
    """The left list, changed in place."""
    left.extend(right)
    return left


def running_total(values: list[int], state: int | None) -> int:
    """The total so far."""
    return (state or 0) + sum(values)


def last_seen(values: list[int], _state: int | None) -> int | None:
    """The last value; a key without any is dropped."""
    return values[-1] if values else None


def seen_thrice(values: list[int], state: list[int] | None) -> list[int] | None:
    """The values so far, in a list that is changed in place; dropped when there are more than eight."""
    kept = [] if state is None else state
    kept.extend(values)
    return kept if len(kept) <= 8 else None


def subtract(left: int, right: int) -> int:
    """The difference."""
    return left - right


def add(left: int, right: int) -> int:
    """The sum."""
    return left + right


def distinct(rdd: Any) -> Any:
    """Each element once."""
    return rdd.distinct()


def sorted_up(rdd: Any) -> Any:
    """The elements in order."""
    return rdd.sortBy(_itself)


def sorted_keys_down(rdd: Any) -> Any:
    """The pairs by key, the largest first, in one partition."""
    return rdd.sortByKey(ascending=False, numPartitions=1)


def indexed(rdd: Any) -> Any:
    """Each number times its place."""
    return rdd.zipWithIndex().map(_product)


def crossed(rdd: Any) -> Any:
    """The sums of all pairs of the RDD's first elements."""
    few = rdd.filter(is_small)
    return few.cartesian(few).map(_sum)


def without_small(rdd: Any) -> Any:
    """The elements that are not small."""
    return rdd.subtract(rdd.filter(is_small))


def past_thresholds(rdd: Any) -> Any:
    """Each number times how many are past three thresholds, by a function whose captured variable changes from job to job."""
    threshold = [0]

    def is_past(number: int) -> bool:
        return number > threshold[0]

    counts = []
    for threshold[0] in (0, 4, 8):
        counts.append(rdd.filter(is_past).count())
    return rdd.map(lambda number: (number * counts[0] + counts[1]) * 10 + counts[2])


def two_branches(rdd: Any) -> Any:
    """The sums of two branches that change the same lists in place."""
    lists = rdd.context.parallelize([[number] for number in rdd.collect()], 2)
    return lists.map(_with_one).union(lists.map(_with_two)).map(sum)


def counted_by_key(rdd: Any) -> Any:
    """How often each key occurs."""
    return rdd.aggregateByKey(0, _one_more, add)


def joined_with_itself(rdd: Any) -> Any:
    """The join of the sums with the largest values."""
    return rdd.reduceByKey(add).join(rdd.reduceByKey(max))


def both(left: Any, right: Any) -> Any:
    """The elements of both."""
    return left.union(right)


def only_left(left: Any, right: Any) -> Any:
    """The pairs whose key the other does not have."""
    return left.subtractByKey(right)


def is_small(number: int) -> bool:
    """Whether the number is below 6."""
    return number < 6


def _itself(number: int) -> int:
    return number


def _product(pair: tuple[int, int]) -> int:
    return pair[0] * pair[1]


def _sum(pair: tuple[int, int]) -> int:
    return pair[0] + pair[1]


def _with_one(numbers: list[int]) -> list[int]:
    numbers.append(100)
    return numbers


def _with_two(numbers: list[int]) -> list[int]:
    numbers.append(200)
    return numbers


def _one_more(count: int, _value: int) -> int:
    return count + 1
