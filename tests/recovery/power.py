"""A power cut without a machine that is switched off: what a process does to a folder is recorded, and replayed as a volume may have it.

What a volume may leave of the operations before a cut, by the words of POSIX and not by those of a kind file system:

1. A write that an fsync of its file followed is there. One that none followed may be there, be missing, end at any byte, have
   sectors of zeros, or be there without the one before it; so for the cutting of a file's end.
2. A name that was made, changed or removed is so once an fsync of its FOLDER followed. Until then it may be as it was, each for itself.
3. A folder that is lost takes with it what is in it, however durable that was.
"""

import contextlib
import inspect
import os
import random
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import product
from math import prod
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import pytest

Tree = dict[str, bytes | None]
"""By path below a folder what a file holds; None for a folder."""

FOLDER = -1
"""In place of a file's node."""
_SECTOR = 512
_TORN, _ZEROED = 36, 4
"""Lengths at which a write is torn, and ways in which it has sectors of zeros."""
_NUMBERS = re.compile(r"-[0-9a-f]{16}|\d+")
"""In a path what differs between files of one kind."""
_RECORDED = ("open", "close", "write", "ftruncate", "fsync", "fdatasync", "rename", "unlink", "mkdir")
_UNKNOWN = ("replace", "rmdir", "link", "symlink", "truncate", "pwrite", "writev", "removedirs")
"""What the recorder cannot replay: a call below its folder fails the test."""


class Op(NamedTuple):
    """One operation, or what the process had told others by then."""

    kind: str
    """create, mkdir, rename, unlink: a name. write, cut: bytes. fsync, fdatasync, sync_folder: what is durable. told: see there."""
    path: str = ""
    """Below the folder; of a name or a folder."""
    node: int = 0
    """The file, whatever its name."""
    data: bytes = b""
    at: int = 0
    """Of a write its position, of a cut the bytes that stay."""
    target: str = ""
    """Of a rename."""
    told: Any = None
    site: str = ""
    """Of an fsync which functions of the engine asked for it, and of what kind of file or folder."""

    @property
    def folder(self) -> str:
        """The folder of the name."""
        return self.path.rpartition("/")[0]


NAMES = frozenset({"create", "mkdir", "rename", "unlink"})
BYTES = frozenset({"write", "cut"})


class Recorder:
    """Writes down what this process does below a folder; fsyncs there are noted, and do not wait for a disk.

    Args:
        folder: it holds what the operations made.
        ops: of the processes before this one, which died while the machine went on.
    """

    def __init__(self, folder: Path, ops: Iterable[Op] = ()) -> None:
        self.folder = os.fspath(folder.resolve())
        self.ops = list(ops)
        self._nodes = names_of(self.ops)
        self._next = 1 + max((op.node for op in self.ops), default=0)
        self._open: dict[int, tuple[str, int]] = {}
        """By descriptor: path below the folder, and node."""
        self._real = {name: getattr(os, name) for name in (*_RECORDED, *_UNKNOWN)}

    def tell(self, told: Any) -> None:
        """The process tells others: it must hold from now on."""
        self.ops.append(Op("told", told=told))

    @contextlib.contextmanager
    def recording(self) -> Iterator["Recorder"]:
        """Record what functions of `os` do; at the end the replay of everything must be what the folder holds."""
        with pytest.MonkeyPatch.context() as patched:
            for name in self._real:
                record = self._open_file if name == "open" else getattr(self, f"_{name}", self._refuse)
                patched.setattr(os, name, self._watched(self._real[name], record))
            yield self
        replayed = replay(self.ops)
        assert tree_of(Path(self.folder)) == replayed, "something was written past the recorder"

    def _watched(self, real: Callable[..., Any], record: Callable[..., Any]) -> Callable[..., Any]:
        def call(first: Any, *arguments: Any, **named: Any) -> Any:
            place = self._open.get(first) if isinstance(first, int) else self._below(first)
            if place is None:
                return real(first, *arguments, **named)
            return record(place, first, *arguments, **named)

        return call

    def _below(self, path: Any) -> str | None:
        whole = str(os.path.abspath(os.fspath(path)))  # noqa: PTH100  a path may be text or Path, and need not exist
        if whole != self.folder and not whole.startswith(f"{self.folder}/"):
            return None
        return whole[len(self.folder) + 1 :]

    @staticmethod
    def _refuse(place: Any, *_arguments: Any, **_named: Any) -> None:
        raise AssertionError(f"the recorder cannot replay what was done to {place}")

    # What is recorded: each takes the place, then what the function of `os` takes.

    def _open_file(self, path: str, first: Any, flags: int, *more: Any, **named: Any) -> int:
        descriptor: int = self._real["open"](first, flags, *more, **named)
        if path not in self._nodes and not flags & os.O_DIRECTORY:
            self._note(Op("create", path, self._next))
            self._next += 1
        assert not flags & os.O_TRUNC
        self._open[descriptor] = path, self._nodes.get(path, FOLDER)
        return descriptor

    def _note(self, op: Op) -> None:
        self.ops.append(op)
        _rename_in(self._nodes, op)

    def _close(self, _place: tuple[str, int], descriptor: int) -> None:
        del self._open[descriptor]
        self._real["close"](descriptor)

    def _write(self, place: tuple[str, int], descriptor: int, data: bytes) -> int:
        written: int = self._real["write"](descriptor, data)
        at = os.lseek(descriptor, 0, os.SEEK_CUR) - written
        self.ops.append(Op("write", node=place[1], data=bytes(data[:written]), at=at))
        return written

    def _ftruncate(self, place: tuple[str, int], descriptor: int, length: int) -> None:
        self._real["ftruncate"](descriptor, length)
        self.ops.append(Op("cut", node=place[1], at=length))

    def _fsync(self, place: tuple[str, int], _descriptor: int) -> None:
        path, node = place
        kind = "sync_folder" if node == FOLDER else "fsync"
        self.ops.append(Op(kind, path if node == FOLDER else "", max(node, 0), site=_site(path)))

    def _fdatasync(self, place: tuple[str, int], _descriptor: int) -> None:
        self.ops.append(Op("fdatasync", node=place[1], site=_site(place[0])))

    def _rename(self, path: str, first: Any, target: Any) -> None:
        self._real["rename"](first, target)
        below = self._below(target)
        assert below is not None
        assert below.rpartition("/")[0] == path.rpartition("/")[0], "a rename between folders is two names"
        self._note(Op("rename", path, self._nodes[path], target=below))

    def _unlink(self, path: str, first: Any) -> None:
        self._real["unlink"](first)
        self._note(Op("unlink", path))

    def _mkdir(self, path: str, first: Any, *more: Any) -> None:
        self._real["mkdir"](first, *more)
        self._note(Op("mkdir", path, FOLDER))


def _site(path: str) -> str:
    """Who asks for the fsync that is under way: functions of the engine, the outermost first, and the kind of what is synced."""
    frames = [
        frame for frame, _ in traceback.walk_stack(None) if frame.f_globals["__name__"][:7] == "engine."
    ]
    calls = [
        f"{frame.f_code.co_qualname}{_which(frame.f_code, frame.f_lineno)}" for frame in reversed(frames)
    ]
    shown = [call for call in calls if call not in {"sync_file", "sync_folder", "_sync"}]
    return f"{' > '.join(shown)}: {_NUMBERS.sub('*', path) or '.'}"


@cache
def _which(code: CodeType, line: int) -> str:
    """Of several fsyncs in a function the number of this one; "" where there is one."""
    lines, first = inspect.getsourcelines(code)
    calls = [first + index for index, text in enumerate(lines) if "os.fsync(" in text]
    return f" {calls.index(line) + 1}" if len(calls) > 1 and line in calls else ""


def _rename_in(names: dict[str, int], op: Op) -> None:
    """What an operation does to the names."""
    match op.kind:
        case "create" | "mkdir":
            names[op.path] = op.node
        case "rename":
            if names.get(op.path) == op.node:
                del names[op.path]
            names[op.target] = op.node
        case "unlink":
            names.pop(op.path, None)


def names_of(ops: Iterable[Op]) -> dict[str, int]:
    """Every name after the operations, with its node."""
    names: dict[str, int] = {}
    for op in ops:
        _rename_in(names, op)
    return names


# What a volume may have.

Fate = tuple[str, int]
"""Of an operation that is not durable: done, lost, torn or zeroed, and a number that says where."""
DONE, LOST = ("done", 0), ("lost", 0)


def pending(ops: Sequence[Op]) -> list[int]:
    """The operations that no fsync has made durable, by their position."""
    files: dict[int, list[int]] = {}
    folders: dict[str, list[int]] = {}
    for position, op in enumerate(ops):
        if op.kind in BYTES:
            files.setdefault(op.node, []).append(position)
        elif op.kind in NAMES:
            folders.setdefault(op.folder, []).append(position)
        elif op.kind in {"fsync", "fdatasync"}:
            files.pop(op.node, None)
        elif op.kind == "sync_folder":
            folders.pop(op.path, None)
    return sorted(position for group in (*files.values(), *folders.values()) for position in group)


def replay(ops: Sequence[Op], fates: dict[int, Fate] | None = None) -> Tree:
    """What the volume has after the operations, those that are not durable with their fates."""
    fates = fates or {}
    names: dict[str, int] = {}
    files: dict[int, bytearray] = {}
    for position, op in enumerate(ops):
        fate = fates.get(position, DONE)
        if fate == LOST:
            continue
        if op.kind in NAMES:
            _rename_in(names, op)
        elif op.kind == "write":
            _write(files.setdefault(op.node, bytearray()), op, fate)
        elif op.kind == "cut":
            del files.setdefault(op.node, bytearray())[op.at :]
    tree: Tree = {}
    for path, node in sorted(names.items()):
        folder = path.rpartition("/")[0]
        if not folder or folder in tree:
            tree[path] = None if node == FOLDER else bytes(files.get(node, b""))
    return tree


def _write(content: bytearray, op: Op, fate: Fate) -> None:
    kind, number = fate
    data = op.data
    if kind == "torn":
        data = data[:number]
    elif kind == "zeroed":
        keep = random.Random(number)
        pieces = [data[begin : begin + _SECTOR] for begin in range(0, len(data), _SECTOR)]
        data = b"".join(piece if keep.random() < 0.5 else bytes(len(piece)) for piece in pieces)
    content.extend(bytes(max(0, op.at - len(content))))
    content[op.at : op.at + len(data)] = data


def left(ops: Sequence[Op], seed: int, at_most: int) -> Iterator[Tree]:
    """What a cut after these operations may leave: every way where they are few, else a choice by the seed."""
    waiting = pending(ops)
    chance = random.Random(seed)
    ways: list[list[Fate]] = []
    for position in waiting:
        op, more = ops[position], []
        if op.kind == "write":
            length, points = len(op.data), min(_TORN, len(op.data) - 1)
            more = [("torn", at) for at in sorted(chance.sample(range(1, length), points))]
            more += [("zeroed", chance.getrandbits(32)) for _ in range(min(_ZEROED, length // _SECTOR + 1))]
        ways.append([DONE, LOST, *more])
    if prod(map(len, ways)) <= at_most:
        chosen: Iterable[Sequence[Fate]] = product(*ways)
    else:
        alike = [[DONE] * len(ways), [LOST] * len(ways)]
        chosen = [*alike, *([chance.choice(way) for way in ways] for _ in range(at_most - 2))]
    for fates in chosen:
        yield replay(ops, dict(zip(waiting, fates, strict=True)))


def without(ops: Iterable[Op], site: str) -> list[Op]:
    """The operations of a process that leaves out the fsyncs of a site; each is one that does nothing, so positions stay."""
    return [Op("left out", site=site) if op.site == site else op for op in ops]


# Folders.


def tree_of(folder: Path) -> Tree:
    """What a folder holds."""
    return {
        os.fspath(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def lay_out(tree: Tree, folder: Path) -> Path:
    """Make a folder that holds this."""
    folder.mkdir()
    for name, content in tree.items():
        if content is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)
    return folder
