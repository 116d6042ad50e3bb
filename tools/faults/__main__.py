"""`python -m tools.faults`: write docs/faults.md, or say whether it is as the tests are.

Owns: the command and the page.
Never: a row by hand; cases are in `tools.faults.cases`, and tests say how they make them.
"""

import sys

import click

from services.settings import REPOSITORY
from tools.faults.cases import CASES, INVARIANTS, Case
from tools.faults.scan import Made, scan

PAGE = REPOSITORY / "docs" / "faults.md"
_HEAD = """# Fifty faults

What users of stream engines met, and what must hold here all the same. Every test below makes its fault, proves that the fault had its
effect, and then that the invariant holds; `python -m tools.faults` wrote this page from the tests' markers. Always asked for:

{invariants}

Cases with a test: {tested} of {cases}.

What the suite leaves out, and where it says so: without namespaces (`unshare`, in some containers) the tests of a full, a read-only and a
short volume are skipped (cases 25 and 26), and the engine as process 1 (case 15); without Kafka's and Cassandra's packages those that need a
server, marked `servers`; without Debian's package `libfaketime` the one of a system's clock that jumps (case 27); where no control group
can be made those of a limit of memory (case 48). A skipped test names its reason in the report. The suite kills 88 and 14 times; the 1,000
kills of the embedded stack and the 100 beside real servers are `make kill-loop` (case 12).

| case | the fault | what must be seen | how it is made, and the test |
|---|---|---|---|
"""


def page() -> str:
    """The page."""
    made = scan(REPOSITORY / "tests")
    head = _HEAD.format(
        invariants="\n".join(f"- **{name}**: {text}." for name, text in INVARIANTS.items()),
        tested=len({one.number for one in made} & set(CASES)),
        cases=len(CASES),
    )
    return head + "".join(_line(case, made) for case in CASES.values())


def _line(case: Case, made: list[Made]) -> str:
    tests = [_test(one) for one in made if one.number == case.number] or ["**none**"]
    fault = f"{case.fault} ({case.simulated})" if case.simulated else case.fault
    return f"| {case.number} | {fault} | {case.must} | {'<br>'.join(tests)} |\n"


def _test(made: Made) -> str:
    path, _, name = made.test.partition("::")
    return f"{made.how}: [{name}](../{path})"


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit 1 when the page is not as the tests are.")
def main(check: bool) -> None:
    """Write docs/faults.md from the cases and the tests' markers.

    Exit codes: 0 written or equal, 1 not equal.
    """
    if check:
        sys.exit(PAGE.read_text() != page())
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
