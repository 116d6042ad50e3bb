"""The table of faults is what the tests are, and every case has one."""

from services.settings import REPOSITORY
from tools.faults.__main__ import PAGE, page
from tools.faults.cases import CASES
from tools.faults.scan import scan


def test_page_is_as_the_tests_are() -> None:
    """docs/faults.md is what `python -m tools.faults` writes."""
    assert PAGE.read_text() == page()


def test_every_case_has_a_test() -> None:
    """Each of the fifty faults is made by a test, and no marker names another case."""
    assert {made.number for made in scan(REPOSITORY / "tests")} == set(CASES)


def test_every_test_says_how() -> None:
    """A test that makes a fault says how in a few words."""
    assert [made.test for made in scan(REPOSITORY / "tests") if not 5 <= len(made.how) <= 120] == []
