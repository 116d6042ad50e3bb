"""A user's script: its records are msgspec Structs of its own `__main__`."""

import json
from typing import Annotated

import msgspec

from engine import LocalContext


class Place(msgspec.Struct, frozen=True):
    """A base with a field."""

    country: str


class Visit(Place, frozen=True, rename={"seconds": "s"}):
    """A record with a required, a renamed and a defaulted field, and a method."""

    page: Annotated[str, msgspec.Meta(min_length=1)]
    seconds: int = 1
    tags: list[str] = msgspec.field(default_factory=list)

    def cost(self) -> int:
        """What it costs."""
        return self.seconds * 2


def decode(value: bytes) -> Visit:
    """A visit of its JSON."""
    return msgspec.json.decode(value, type=Visit)


if __name__ == "__main__":
    with LocalContext("local[2]") as sc:
        values = [b'{"country":"de","page":"/a","s":3}', b'{"country":"fr","page":"/b","tags":["x"]}']
        visits = sc.parallelize(values, 2).map(decode).collect()
        costs = (
            sc.parallelize(visits, 2)
            .map(lambda visit: (visit.page, visit.cost()))
            .reduceByKey(max, 2)
            .collect()
        )
        print(json.dumps([all(type(visit) is Visit for visit in visits), sorted(costs), visits[1].tags]))  # noqa: T201 - for its reader
