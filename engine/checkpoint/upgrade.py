"""What a newer version of a job does to the state that an older one left: operators renamed and dropped, states of another type.

Deltas and snapshots are never rewritten for it. An upgrade of names is one record of the journal. Types are a lineage: from which
version on an operator's deltas and snapshots hold which types, so that each is read as what it was written as, and brought to the
type of today while it is read. Shards that still have old ones are due for a snapshot until both generations are new.

    versions of one shard      10 ------- 20 ------- 30 ---------- 40
    lineage                    int from 10           Total from 30
    a restore reads            snapshot 20, through int -> Total, then the deltas 30 and 40 as they are

Owns: StateChanges, DeclaredState; what they do to a catalog.
Never: a file.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from engine.batch import Batch
from engine.checkpoint.records import Catalog, Commit, DeltaRecord, SnapshotRecord, Types, Upgrade
from engine.errors import ConfigurationError, StateVersionError

Migrate = Callable[[Any], Any]
"""A state of an older type -> one of today's."""


class StateChanges:
    """What a job says of the state that its older versions left."""

    def __init__(self) -> None:
        self.renamed: dict[str, str] = {}
        self.dropped: set[str] = set()
        self.migrations: dict[str, Mapping[Any, Migrate]] = {}

    def upgrade_of(self, known: Mapping[str, str], mine: Mapping[str, str]) -> Upgrade:
        """What is to be done to a checkpoint that holds these operators, for a job that has those; both with their lineages.

        Raises:
            ConfigurationError: a declaration does not fit the job.
            StateVersionError: both names of a renamed operator have state.

        Example:
            >>> changes = StateChanges()
            >>> changes.renamed["sums"] = "totals"
            >>> changes.upgrade_of({"sums": "updateStateByKey(queue)"}, {"totals": "updateStateByKey(queue)"})
            Upgrade(renamed={'sums': 'totals'}, dropped=[])
        """
        self._refuse_misfits(mine)
        renamed = {old: new for old, new in self.renamed.items() if old in known}
        for old, new in renamed.items():
            if new in known:
                raise StateVersionError(
                    f"renameState({old!r}, {new!r}): the checkpoint holds state of both; drop one of them with dropState, "
                    "by a job that has only the other"
                )
            others = [other for other in renamed if other != old and renamed[other] == new]
            if others:
                raise ConfigurationError(
                    f"renameState gives {old!r} and {others[0]!r} one name, {new!r}, and the checkpoint holds state of both; "
                    "give up one of them with dropState"
                )
        return Upgrade(renamed, sorted(self.dropped & set(known)))

    def _refuse_misfits(self, mine: Mapping[str, str]) -> None:
        for name in sorted(self.dropped & set(self.renamed)):
            raise ConfigurationError(
                f"renameState and dropState both name {name!r}; take one of the calls away"
            )
        for verb, gone in (("renameState", list(self.renamed)), ("dropState", sorted(self.dropped))):
            for name in set(gone) & set(mine):
                raise ConfigurationError(
                    f"{verb} names {name!r}, which is an operator of this job; take the call away, or give the operator another name="
                )
        for verb, there in (("renameState", self.renamed.values()), ("migrateState", self.migrations)):
            for name in set(there) - set(mine):
                has = ", ".join(map(repr, mine)) or "none"
                raise ConfigurationError(
                    f"{verb} names {name!r}, which is no operator with state of this job; it has {has}"
                )


class DeclaredState(NamedTuple):
    """What a job that starts declares of its state."""

    upgrade: Upgrade
    types: Mapping[str, Types]
    """Of each operator."""
    former: Mapping[str, frozenset[str]]
    """By operator the older types of a state that it can bring to today's."""


def refuse_other_types(catalog: Catalog, declared: DeclaredState, folder: str) -> None:
    """Prove that every delta and snapshot can be read as the declared types; the names are those after the upgrade.

    Raises:
        StateVersionError: one is of another type, and nothing brings it to the declared one.
    """
    outdated(catalog)  # what nothing is left of is no reason
    for name, (key, state) in declared.types.items():
        for _, (old_key, old_state) in catalog.types.get(name, ()):
            if old_key != key:
                raise StateVersionError(
                    f"{folder} holds operator {name!r} with keys of type {old_key}, this job declares {key}; "
                    f"declare keyType= as before: keys cannot be migrated, as their shard follows from them"
                )
            if old_state != state and old_state not in declared.former.get(name, ()):
                raise StateVersionError(
                    f"{folder} holds states of operator {name!r} of type {old_state}, this job declares {state}; declare the type "
                    f"as before, or say how an old state becomes a new one with migrateState({name!r}, {{<old type>: function}})"
                )


def apply_upgrade(catalog: Catalog, upgrade: Upgrade) -> None:
    """Rename and drop operators in the catalog; once more changes nothing."""
    gone, new = set(upgrade.dropped), upgrade.renamed
    if catalog.commit is not None:
        operators, versions = (
            {new.get(name, name): value for name, value in values.items() if name not in gone}
            for values in (catalog.commit.operators, catalog.commit.versions)
        )
        catalog.commit = msgspec.structs.replace(catalog.commit, operators=operators, versions=versions)
    replace = msgspec.structs.replace
    catalog.deltas = [
        replace(delta, operator=new.get(delta.operator, delta.operator))
        for delta in catalog.deltas
        if delta.operator not in gone
    ]
    catalog.snapshots = [
        replace(kept, operator=new.get(kept.operator, kept.operator))
        for kept in catalog.snapshots
        if kept.operator not in gone
    ]
    catalog.trimmed = [(new.get(name, name), shard) for name, shard in catalog.trimmed if name not in gone]
    catalog.types = {new.get(name, name): kept for name, kept in catalog.types.items() if name not in gone}


def untold_types(catalog: Catalog, types: Mapping[str, Types]) -> dict[str, Types]:
    """Those of the declared types that the next commit is to tell."""
    return {
        name: declared
        for name, declared in types.items()
        if name not in catalog.types or catalog.types[name][-1][1] != declared
    }


def told_types(untold: Mapping[str, Types], versions: Mapping[str, int], batch: Batch) -> dict[str, Types]:
    """Those of the untold types that the commit of a batch tells: of operators that have advanced in it."""
    return {name: types for name, types in untold.items() if versions.get(name) == batch.write_timestamp}


def take_types(catalog: Catalog, commit: Commit) -> None:
    """A commit tells types of its operators."""
    for name, types in commit.types.items():
        catalog.types[name] = [*catalog.types.get(name, ()), (commit.versions[name], types)]


def outdated(catalog: Catalog) -> set[tuple[str, int]]:
    """Shards that have a delta or a snapshot of older types; a lineage that nothing is left of is cut."""
    found: set[tuple[str, int]] = set()
    for name, lineage in catalog.types.items():
        if len(lineage) > 1:
            since = lineage[-1][0]
            pieces: list[DeltaRecord | SnapshotRecord] = [*catalog.deltas, *catalog.snapshots]
            old = {
                (name, piece.shard) for piece in pieces if piece.operator == name and piece.version < since
            }
            found |= old
            if not old:
                catalog.types[name] = lineage[-1:]
    return found
