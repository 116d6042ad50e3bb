"""What only the driver has.

Owns: DriverOnly.
Never: anything that travels.
"""

from typing import NoReturn

from engine.errors import ConfigurationError


class DriverOnly:
    """A context, an RDD or a stream: a function that tasks run cannot take it along.

    Example:
        >>> from engine import LocalContext
        >>> with LocalContext("local") as sc:
        ...     sc.range(2).map(lambda n: sc.range(n).count()).collect()  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        engine.errors.ConfigurationError: function <lambda> cannot be shipped to the executors: It appears that you are ...

    Source: SPARK-5063.
    """

    def __reduce__(self) -> NoReturn:
        """Refuse.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError(
            f"It appears that you are attempting to reference a {type(self).__name__} from a function that tasks run, where "
            "there is none; use it in the driver, and give tasks values or a broadcast variable"
        )
