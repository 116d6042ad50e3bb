"""The checks can fail: each finds an engine that is wrong on purpose, and finds nothing in the one that is not."""

import os
import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.engine.children import wait_until
from tests.recovery import app
from tests.recovery.mutants import MUTANTS
from tests.recovery.truth import differences, time_of
from tests.recovery.victims import Victims, error, reached, serving

pytestmark = pytest.mark.slow

Check = Callable[[Victims, Path, str], list[str]]
"""Makes a fault, and says what is wrong after it with the engine of a mutant's name."""

_BEFORE_THE_SUM = b"\xda\x0b\xb8" + app.PAD.encode()[:64]
"""In a snapshot: what comes after the sum in the state of a key."""


def findings(folder: Path, code: int) -> list[str]:
    """What is wrong after the last start, which ended with this exit code."""
    return [f"exit code {code}: {error(folder)}"] if code else differences(folder)


def killed_at(point: str) -> Check:
    """A process that dies at the point, on a slide, and is started again."""

    def check(victims: Victims, folder: Path, mutant: str) -> list[str]:
        app.prepare(folder)
        assert victims.run(folder, point=point, after=3, mutant=mutant) == -signal.SIGKILL
        assert reached(folder) == [point]
        return findings(folder, victims.run(folder, mutant=mutant))

    return check


def power_cut(victims: Victims, folder: Path, mutant: str) -> list[str]:
    """A process that dies with its machine: of the journal stays what was made durable."""
    app.prepare(folder)
    assert victims.run(folder, point="before_commit", after=3, mutant=mutant) == -signal.SIGKILL
    durable = {
        Path(path).name: int(size)
        for size, path in (line.split(" ", 1) for line in (folder / "synced").read_text().splitlines())
    }
    segments = list(folder.glob("checkpoints/*/journal/*.log"))
    assert segments
    for segment in segments:
        os.truncate(segment, durable.get(segment.name, 0))
    return findings(folder, victims.run(folder, mutant=mutant))


def bit_turned(victims: Victims, folder: Path, mutant: str) -> list[str]:
    """The newest snapshot of a shard has one bit turned, in the sum of its first key, while the engine is down."""
    app.prepare(folder)
    # The sums of the sixth batch are in a snapshot, and in no delta behind it.
    assert victims.run(folder, until=6, mutant=mutant) == 0
    newest = max(
        folder.glob("checkpoints/*/state/totals-*/*/*.snap"), key=lambda path: path.stat().st_mtime_ns
    )
    assert mutant or f"{time_of(6) * 1_000}-" in newest.name
    content = bytearray(newest.read_bytes())
    content[content.index(_BEFORE_THE_SUM) - 1] ^= 1
    newest.write_bytes(content)
    return findings(folder, victims.run(folder, mutant=mutant))


def zombie(victims: Victims, folder: Path, mutant: str) -> list[str]:
    """A process is stopped between its rows, another takes over and finishes, then the first one wakes up."""
    app.prepare(folder)
    with serving() as others:
        others.begin(folder, point="in_sink", kind="delay:0.05", after=3, mutant=mutant)
        wait_until(lambda: bool(reached(folder)), "the zombie in its sink")
        pid = int((folder / "pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        try:
            code = victims.run(folder, takeover=True, mutant=mutant)
        finally:
            os.kill(pid, signal.SIGCONT)
        found = findings(folder, code)
        zombies = others.end()
    if zombies == 0:
        return [*found, "the process that was taken over from went on to its end"]
    assert "ConcurrentRunError" in error(folder)
    return found or differences(folder)


CHECKS: Sequence[tuple[str, Check, str]] = (
    (
        "commit before the sinks",
        killed_at("before_sink"),
        rf"windows: \({time_of(4)}, 'key-0', 112, .* is not there",
    ),
    (
        "increments in the sink",
        killed_at("before_commit"),
        r"windows: .*'key-0', 224, .* should not be there",
    ),
    (
        "offsets before state",
        killed_at("before_state"),
        rf"sessions: \({time_of(7)}, 'session-2', 210, .* should not be there",
    ),
    (
        "pending batch forgotten",
        killed_at("before_commit"),
        rf"sessions: \({time_of(7)}, 'session-2', 210, .* should not be there",
    ),
    (
        "no fsync of the journal",
        power_cut,
        "CorruptLogError: .* damaged at byte 0 and no segment before it is whole",
    ),
    ("one name for all snapshots", bit_turned, "CorruptLogError: operator 'totals': none of its snapshots"),
    ("no checksums", bit_turned, r"totals: \('key-2', 795, .* should not be there"),
    ("late writes win", zombie, rf"totals: \('key-1', 160, {time_of(4)}\) should not be there"),
    ("no look at the fence", zombie, "the process that was taken over from went on to its end"),
)
"""Mutants, what must find each, and what it must find.

A snapshot that is written over the one that a commit names is found by the generation that it costs, and by nothing less: a
kill between its rename and the journal left exact tables in every batch tried, also with the newest commit torn.
"""


@pytest.mark.parametrize(("mutant", "check", "finding"), CHECKS)
def test_every_mutant_is_found(
    victims: Victims, tmp_path: Path, mutant: str, check: Check, finding: str, figures: Callable[[str], None]
) -> None:
    """A fault of its kind brings a mutant to light by what is wrong with it, and the same fault finds nothing in the engine as it is."""
    whole, changed = tmp_path / "whole", tmp_path / "changed"
    whole.mkdir()
    changed.mkdir()
    assert check(victims, whole, "") == []

    found = check(victims, changed, mutant)
    assert [line for line in found if re.search(finding, line)], found
    figures(f"mutant found: {mutant}: {found[0]:.90}")


@pytest.mark.parametrize(
    "mutant", sorted({mutant for mutant, _, _ in CHECKS} - {"one name for all snapshots"})
)
def test_a_mutant_passes_where_nothing_goes_wrong(victims: Victims, tmp_path: Path, mutant: str) -> None:
    """Without a fault a mutant's tables are exact, so it is the fault that brings it to light."""
    app.prepare(tmp_path)
    assert victims.run(tmp_path, mutant=mutant) == 0

    assert differences(tmp_path) == []


def test_every_mutant_has_a_check() -> None:
    """No mutant is left without the fault that must find it."""
    assert set(MUTANTS) == {"", *(mutant for mutant, _, _ in CHECKS)}
