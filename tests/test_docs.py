"""What the documents say is run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def blocks(document: str, language: str) -> list[str]:
    """The code blocks of a language in a document of the repository."""
    return re.findall(rf"```{language}\n(.*?)```", (REPOSITORY / document).read_text(), re.DOTALL)


@pytest.mark.slow
def test_first_job_of_the_readme_counts_words(tmp_path: Path) -> None:
    """The README's first job runs as it stands and prints the totals of both batches."""
    job = blocks("README.md", "python")[0].replace("/tmp/words", str(tmp_path))  # noqa: S108 - the README's folder

    done = subprocess.run(
        [sys.executable, "-c", job], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "('to', 1)" in done.stdout
    assert "('to', 2)" in done.stdout


def test_makefile_has_the_targets_of_the_readme() -> None:
    """Every `make` target that the README names is in the Makefile, with a line of help."""
    named = set(re.findall(r"`make ([a-z-]+)", (REPOSITORY / "README.md").read_text()))
    helped = set(re.findall(r"^([a-z-]+):.*## ", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))

    assert named <= helped


@pytest.mark.parametrize("document", sorted((REPOSITORY / "docs").glob("*.md")), ids=lambda path: path.name)
def test_links_between_the_documents_lead_somewhere(document: Path) -> None:
    """Every relative link and picture of a page in docs/ is there."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())

    assert [link for link in links if not (document.parent / link).exists()] == []


def test_make_targets_of_the_documents_exist() -> None:
    """Every `make` target that a page in docs/ names is in the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for document in (REPOSITORY / "docs").glob("*.md"):
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)", document.read_text(), re.MULTILINE))
        assert named <= targets, document.name


def test_paths_in_the_documents_exist() -> None:
    """Every file and folder that README and ARCHITECTURE link or name in the code map is there."""
    links = re.findall(r"\]\(([^)#:]+)\)", (REPOSITORY / "README.md").read_text())
    rooms = re.findall(r"^\| `([\w/]+/)`", (REPOSITORY / "ARCHITECTURE.md").read_text(), re.MULTILINE)

    assert [path for path in [*links, *rooms] if not (REPOSITORY / path).exists()] == []
    assert links
    assert rooms
