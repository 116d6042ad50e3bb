"""The shape of the code: budgets, docstrings, names, and the form of the tests themselves."""

import ast
import re
from collections.abc import Callable
from statistics import median, quantiles

import pytest

from tests.parsed import (
    PARTS_OF_DSTREAM,
    ROOT,
    calls,
    files_of_tests,
    functions,
    is_package_marker,
    length,
    modules,
    public,
    tree,
    written_tests,
)

MODULE_LINES = 500
FUNCTION_LINES = 60

SHOWN: dict[str, list[str]] = {
    "RDD": [
        "engine.rdd.local.LocalRDD",
        "engine.rdd.rearranging.Rearranging",
        "engine.rdd.bykey.ByKey",
        "engine.rdd.elements.Elements",
        "engine.rdd.numbers.Numbers",
        "engine.rdd.sampling.Sampling",
        "engine.rdd.saving.Saving",
        "engine.rdd.keeping.Keeping",
        "engine.rdd.actions.Actions",
    ],
    "SparkContext": [
        "engine.rdd.context.LocalContext",
        "engine.rdd.ambient.Surroundings",
        "engine.rdd.jobs.JobProperties",
        "engine.rdd.surface.Reading",
    ],
    "Accumulator": ["engine.rdd.shared.Accumulator"],
    "AccumulatorParam": ["engine.rdd.shared.AccumulatorParam"],
    "Broadcast": ["engine.rdd.shared.Broadcast"],
    "Receiver": ["engine.sources.receiver.Receiver"],
    "SparkConf": ["engine.rdd.conf.SparkConf"],
    "SparkFiles": ["engine.rdd.shared.SparkFiles"],
    "State": ["engine.dstream.statespec.State"],
    "StateSpec": ["engine.dstream.statespec.StateSpec"],
    "StreamingContext": [
        "engine.context.StreamingContext",
        "engine.inputs.InputStreams",
        "engine.preparation.Preparations",
    ],
    "StreamingListener": ["engine.scheduler.listener.StreamingListener"],
    "TaskContext": ["engine.rdd.task.TaskContext"],
}
"""Classes that users call, by PySpark's names, and where their methods stand; of a name in two places the first counts."""
OWN: dict[str, set[str]] = {
    "RDD": {
        "derive",
        "forget_parents",
        "narrow",
        "place",
        "plan",
        "plan_own",
        "prepare",
        "restored",
        "run",
        "settle",
        "unite",
    },
    "SparkContext": {
        *(
            "folder",
            "interrupt",
            "job",
            "next_number",
            "next_rdd_id",
            "pinned",
            "recover",
            "release_broadcast",
            "release_rdd",
        ),
        *("remove_shuffle", "run_stage", "shuffle_file_bytes", "spilled_bytes"),
    },
    "Accumulator": {"merge"},
    "Broadcast": {"forget", "forget_folder"},
    "SparkFiles": {"use"},
    "State": {"open_timing_out"},
    "TaskContext": {"enter", "own_process"},
}
"""Their methods that the engine alone calls."""


# Budgets.


def test_budgets_are_kept(figures: Callable[[str], None]) -> None:
    """No module is longer than 500 lines, no function than 60 beside its docstring, and the medians stay small."""
    lines = {
        name: len(path.read_text().splitlines())
        for name, path in modules().items()
        if not is_package_marker(name)
    }
    lengths = {
        f"{name}.{node.name}:{node.lineno}": length(node)
        for name, path in modules().items()
        for node in functions(path)
    }
    for label, counts in (("module lines", lines), ("function lines", lengths)):
        spread, longest = list(counts.values()), max(counts, key=lambda name: counts[name])
        p90 = quantiles(spread, n=10)[-1]
        figures(
            f"{label}: {len(spread)} of them, median {median(spread):.0f}, p90 {p90:.0f}, max {counts[longest]} ({longest})"
        )

    assert {name: count for name, count in lines.items() if count > MODULE_LINES} == {}
    assert {name: count for name, count in lengths.items() if count > FUNCTION_LINES} == {}
    assert median(lengths.values()) <= 8
    assert quantiles(lengths.values(), n=10)[-1] <= 25


def test_test_files_are_short() -> None:
    """No file of the tests is longer than a module may be."""
    long = {
        str(path.relative_to(ROOT)): count
        for path in files_of_tests()
        if (count := len(path.read_text().splitlines())) > MODULE_LINES
    }

    assert long == {}


# Docstrings.


def test_modules_say_what_they_own() -> None:
    """Every module of the engine begins with a sentence and says what it owns and never does."""
    wrong = []
    for name, path in modules().items():
        if name.startswith("engine.") and not is_package_marker(name):
            text = ast.get_docstring(tree(path)) or ""
            if not (re.match(r".+[.:]\n", text + "\n") and "\nOwns: " in text and "Never: " in text):
                wrong.append(name)

    assert wrong == []


def test_public_names_have_docstrings() -> None:
    """Every public function, class and method of the engine has a docstring whose first line is a sentence."""
    wrong = [
        f"{name}.{label}"
        for name, path in modules().items()
        if name.startswith("engine")
        for label, node in public(tree(path))
        if not re.match(r"[^\n]*[.:](\n|$)", _joined(ast.get_docstring(node) or ""))
    ]

    assert wrong == []


def _joined(text: str) -> str:
    """The docstring with its first paragraph on one line."""
    first, gap, rest = text.partition("\n\n")
    return " ".join(first.split()) + gap + rest


def test_operators_have_their_sections() -> None:
    """Every public operator of DStream, in whichever of its parts, tells its elements and shows an example."""
    parts = [
        node
        for name in PARTS_OF_DSTREAM | {"engine.dstream.dstream"}
        for node in tree(modules()[name]).body
        if isinstance(node, ast.ClassDef)
    ]
    operators = [node for part in parts for _, node in public(part) if isinstance(node, ast.FunctionDef)]
    wrong = [
        f"{node.name}: {section}"
        for node in operators
        for section in ("Elements:", "Example:")
        if f"\n{section}" not in (ast.get_docstring(node) or "")
    ]

    assert len(operators) > 40
    assert wrong == []


@pytest.mark.parametrize("kind", SHOWN)
def test_methods_show_an_example(kind: str) -> None:
    """Every method that a user calls shows an example; what only refuses, and what is the engine's own, need not."""
    parts = [
        node
        for name in SHOWN[kind]
        for node in tree(modules()[name.rpartition(".")[0]]).body
        if isinstance(node, ast.ClassDef) and node.name == name.rpartition(".")[2]
    ]
    methods = {
        node.name: node
        for part in reversed(parts)
        for _, node in public(part)
        if isinstance(node, ast.FunctionDef) and not _is_refusal_or_setter(node)
    }
    without = {name for name, node in methods.items() if "Example:" not in (ast.get_docstring(node) or "")}

    assert len(parts) == len(SHOWN[kind])
    assert without - OWN.get(kind, set()) == set()
    assert OWN.get(kind, set()) <= without


def _is_refusal_or_setter(node: ast.FunctionDef) -> bool:
    """Whether a method always raises, or sets what a method of the same name shows."""
    returned = "" if node.returns is None else ast.unparse(node.returns)
    return returned == "NoReturn" or any(
        ast.unparse(each).endswith(".setter") for each in node.decorator_list
    )


def test_docstrings_and_comments_keep_their_share(figures: Callable[[str], None]) -> None:
    """A fifth to a half of the engine's lines are docstrings, those of fields too; few are comments: why, unit, invariant."""
    paths = [path for name, path in modules().items() if name.startswith("engine")]
    lines = [line for path in paths for line in path.read_text().splitlines() if line.strip()]
    prose = sum(
        sum(bool(line.strip()) for line in node.value.value.splitlines())
        for path in paths
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
    comments = sum(line.strip().startswith("#") for line in lines)
    tests = [test for path in files_of_tests() for test in written_tests(path)]
    figures(
        f"engine: {len(lines)} lines, docstrings {prose / len(lines):.0%}, comments {comments / len(lines):.1%}"
    )
    figures(f"tests: {len(tests)}, one for each {len(lines) / max(len(tests), 1):.0f} lines of the engine")

    assert 0.2 <= prose / len(lines) <= 0.5
    assert comments / len(lines) <= 0.08


# Names.


@pytest.mark.parametrize("package", [name for name in modules() if modules()[name].name == "__init__.py"])
def test_front_doors_list_their_names(package: str) -> None:
    """`__all__` is sorted and holds every public name that a package brings in."""
    body = tree(modules()[package]).body
    listed = [
        ast.literal_eval(node.value)
        for node in body
        if isinstance(node, ast.Assign) and any(ast.unparse(target) == "__all__" for target in node.targets)
    ]
    brought = {
        alias.asname or alias.name
        for node in body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert (listed[0] if listed else []) == sorted(brought)


# Tests.


def test_tests_state_a_fact() -> None:
    """Every test has a docstring of one sentence."""
    wrong = []
    for path in files_of_tests():
        for node in written_tests(path):
            text = " ".join((ast.get_docstring(node) or "").split())
            if not text.endswith(".") or re.search(r"[.!?] [A-Z]", text):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {text!r}")

    assert wrong == []


def test_tests_neither_sleep_nor_mock() -> None:
    """No test waits for a time and none replaces a part by a mock."""
    wrong = []
    for path in files_of_tests():
        names = {
            alias.name
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        sources = {node.module for node in ast.walk(tree(path)) if isinstance(node, ast.ImportFrom)}
        if "time.sleep" in set(calls(path)) or "sleep" in names:
            wrong.append(f"{path.relative_to(ROOT)} sleeps")
        if any("mock" in (name or "").lower() for name in names | sources):
            wrong.append(f"{path.relative_to(ROOT)} mocks")

    assert wrong == []
