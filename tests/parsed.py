"""The code as the tests of its shape see it: parsed, and never imported. Standard library only."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("engine", "services", "tools")

PARTS_OF_DSTREAM = {
    f"engine.dstream.{part}" for part in ("handle", "pairs", "windows", "stateful", "outputs")
}
"""The classes that DStream is put together from: they name it in annotations, and nothing else does such a thing."""


@cache
def modules() -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    """The parsed file."""
    return ast.parse(path.read_text())


def is_package_marker(name: str) -> bool:
    """Whether a module is an `__init__.py` with nothing but its docstring."""
    return modules()[name].name == "__init__.py" and len(tree(modules()[name]).body) <= 1


def for_annotations(module: ast.Module) -> set[ast.AST]:
    """What stands under `if TYPE_CHECKING`."""
    blocks = [
        node for node in module.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    return {inner for block in blocks for inner in ast.walk(block)}


def imports(name: str) -> Iterator[str]:
    """What a module imports: modules of ours by their own name, others by their full name."""
    unseen = for_annotations(tree(modules()[name])) if name in PARTS_OF_DSTREAM else set()
    for node in ast.walk(tree(modules()[name])):
        if node in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in modules() else node.module


@cache
def edges() -> dict[str, set[str]]:
    """By module the modules of ours that it imports."""
    return {name: {other for other in imports(name) if other in modules()} - {name} for name in modules()}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of a file, nested ones too."""
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, its docstring left out: prose has no budget."""
    text = ast.get_docstring(node, clean=False)
    return (
        (node.end_lineno or node.lineno) - node.lineno + 1 - (text.count("\n") + 1 if text is not None else 0)
    )


def calls(path: Path) -> Iterator[str]:
    """The dotted ends of everything that a file calls: `time.sleep` of `time.sleep(1)`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ".".join(ast.unparse(node.func).split(".")[-2:])


def attributes(path: Path) -> Iterator[str]:
    """Every attribute that a file names, such as `os.environ`."""
    return (ast.unparse(node) for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute))


def public(
    node: ast.Module | ast.ClassDef, prefix: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Public functions and classes of a module, with the methods of its public classes."""
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            yield prefix + child.name, child
            if isinstance(child, ast.ClassDef):
                yield from public(child, f"{child.name}.")


def files_of_tests() -> list[Path]:
    """Every file under tests."""
    return sorted((ROOT / "tests").rglob("*.py"))


def written_tests(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The tests of a file."""
    return [
        node for node in functions(path) if node.name.startswith("test_") and path.name.startswith("test_")
    ]


@cache
def tracked() -> list[Path]:
    """The files that git tracks, and those that it would."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in listed if (ROOT / name).is_file()]
