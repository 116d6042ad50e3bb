"""Proves that every row of every result table is exact, in code that shares nothing with the engine.

Owns: the names that other tools and tests use.
"""

from tools.verify.proof import verify
from tools.verify.verdict import LedgerVerdict, Offender, ProducersVerdict, TableVerdict, Verdict

__all__ = ["LedgerVerdict", "Offender", "ProducersVerdict", "TableVerdict", "Verdict", "verify"]
