"""Numbers on a command line, refused in one sentence with the value and what would do.

Owns: Whole, Number.
Never: a default.
"""

from typing import Any

import click


class Whole(click.IntRange):
    """A whole number.

    Example:
        >>> Whole(min=1).convert("x", None, None)
        Traceback (most recent call last):
        click.exceptions.BadParameter: 'x' is not a whole number from 1 on
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        try:
            return int(super().convert(value, param, ctx))
        except click.BadParameter:
            self.fail(f"{value!r} is not a whole number {_range(self.min, self.max)}", param, ctx)


class Number(click.FloatRange):
    """A number.

    Example:
        >>> Number(min=5, max=600).convert("1", None, None)
        Traceback (most recent call last):
        click.exceptions.BadParameter: '1' is not a number from 5 to 600
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        try:
            return float(super().convert(value, param, ctx))
        except click.BadParameter:
            self.fail(f"{value!r} is not a number {_range(self.min, self.max)}", param, ctx)


def _range(least: float | None, most: float | None) -> str:
    return f"from {least} on" if most is None else f"from {least} to {most}"
