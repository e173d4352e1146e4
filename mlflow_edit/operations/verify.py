"""Check everything that is stored of a model, and tell what a crash left behind."""

from collections.abc import Callable, Iterator
from typing import Any

from mlflow_edit.core.edit import FrozenModel
from mlflow_edit.core.ledger import Move, moves_of
from mlflow_edit.core.lineage import Lineage
from mlflow_edit.core.manifest import BaseRef, BatchRef, Manifest
from mlflow_edit.errors import GateError, MlflowEditError
from mlflow_edit.operations.aliases import holder_of, settle_alias
from mlflow_edit.operations.gc import Orphan, needed_runs, orphan_of
from mlflow_edit.operations.open_registry import open_registry
from mlflow_edit.operations.reporter import Reporter, Silent
from mlflow_edit.operations.review import IN_QUEUE, ask_reviewers, not_asked
from mlflow_edit.registry.names import model_name
from mlflow_edit.registry.registry import Registry, VersionInfo


class Problem(FrozenModel):
    """Something that is not as it was registered; `fixable` by `--fix`."""

    where: str
    message: str
    fixable: bool = False
    fixed: bool = False


class Checked(FrozenModel):
    """How much was checked."""

    models: int = 0
    versions: int = 0
    batches: int = 0
    bases: int = 0
    weights: int = 0
    entries: int = 0


class Verified(FrozenModel):
    """What was checked, and what is wrong. Orphans harm nothing: `gc` removes them."""

    ok: bool
    checked: Checked
    problems: tuple[Problem, ...]
    orphans: tuple[Orphan, ...]


def verify(
    name: str | None = None,
    *,
    fix: bool = False,
    registry: Registry | None = None,
    reporter: Reporter | None = None,
) -> Verified:
    """Check every digest, manifest, patch, scorecard and base of a model, lineage, tags, aliases.

    Args:
        name: the model; None checks all.
        fix: write tags again, and move aliases to where the ledger says; nothing is deleted.
        registry: where; None takes MLflow's setting.
        reporter: is told what is being done.

    Raises:
        RegistryError: the store cannot be reached.
    """
    registry, reporter = open_registry(registry), reporter or Silent()
    names = [model_name(name)] if name is not None else registry.models()
    check = _Check(registry, fix=fix, reporter=reporter)
    for one in names:
        check.model(one)
    return Verified(
        ok=not any(not problem.fixed for problem in check.problems),
        checked=Checked(**check.counts),
        problems=tuple(check.problems),
        orphans=tuple(check.orphans),
    )


class _Check:
    """Goes through models, and collects what is wrong instead of stopping at it."""

    def __init__(self, registry: Registry, *, fix: bool, reporter: Reporter) -> None:
        self._registry, self._fix, self._reporter = registry, fix, reporter
        self.problems: list[Problem] = []
        self.orphans: list[Orphan] = []
        self.counts = dict.fromkeys(Checked.model_fields, 0)
        self._batches: set[tuple[str, str]] = set()
        self._bases: set[tuple[str, str]] = set()

    def model(self, name: str) -> None:
        """Check one model."""
        self._reporter.stage(f"verifying {name}")
        self.counts["models"] += 1
        versions: list[VersionInfo] = self._try(name, lambda: self._registry.versions(name)) or []
        for done, info in enumerate(versions):
            self._reporter.progress(done, len(versions))
            self._version(info)
        lineage = Lineage({info.digest: info.parents for info in versions})
        for digest, parent in lineage.unknown_parents():
            self._problem(f"{name} {digest[:12]}", f"its parent {parent[:12]} is not registered")
        if versions:
            self._try(f"{name}: ledger", lambda: self._aliases(name, versions))
        self._try(name, lambda: self._orphans(name))

    def _version(self, info: VersionInfo) -> None:
        where = f"{info.name}@{info.version}"
        self.counts["versions"] += 1
        manifest: Manifest | None = self._try(where, lambda: self._registry.manifest(info))
        if manifest is None:
            return
        said: list[str] = (
            self._try(where, lambda: self._registry.inconsistencies(info, manifest)) or []
        )
        if said and self._fix:
            self._try(where, lambda: self._registry.mend(info, manifest))
            again = self._try(where, lambda: self._registry.inconsistencies(info, manifest))
            left = set(said if again is None else again)
        for one in said:
            self._problem(where, one, fixable=True, fixed=self._fix and one not in left)
        self._try(where, lambda: self._registry.scorecard(info, manifest))
        self._try(where, lambda: self._review(where, info, manifest))
        for ref in manifest.batches:
            self._batch(where, ref, manifest)
        self._base(where, manifest.base)
        if any(ref.kind == "delta" for ref in manifest.batches) or manifest.weights:
            self._try(where, lambda: self._weights(manifest))

    def _review(self, where: str, info: VersionInfo, manifest: Manifest) -> None:
        """Compare what a version asks its reviewers with what is in its review queue."""
        missing = not_asked(self._registry, info, manifest)
        if not missing:
            return
        again = ask_reviewers(self._registry, info, manifest, IN_QUEUE) if self._fix else None
        self._problem(
            where,
            f"{missing} of its changes are missing from its review queue",
            fixable=True,
            fixed=again is not None and not again.failed,
        )

    def _weights(self, manifest: Manifest) -> None:
        """Compose the weights of a version, and compare their digest with the registered one."""
        from mlflow_edit.registry.flavor import load_edited

        self.counts["weights"] += 1
        load_edited(self._registry, manifest, device="cpu").detach()

    def _batch(self, where: str, ref: BatchRef, manifest: Manifest) -> None:
        if (ref.digest, ref.run_id) in self._batches:
            return
        self._batches.add((ref.digest, ref.run_id))
        self.counts["batches"] += 1
        where = f"{where}: batch {ref.digest[:12]}"
        stored: Any = self._try(where, lambda: self._registry.stored_batch(ref))
        if stored is None:
            return
        if stored.record.base != manifest.base.digest:
            self._problem(where, f"made for the base model {stored.record.base[:12]}")
        strangers = manifest.excluded(ref.digest) - {edit.id for edit in stored.edits}
        for edit in sorted(strangers):
            self._problem(where, f"the manifest leaves out an edit {edit!r} that it has not")

    def _base(self, where: str, base: BaseRef) -> None:
        from mlflow_edit.models.base_digest import base_digest
        from mlflow_edit.models.base_files import find_base

        if (base.digest, base.uri) in self._bases:
            return
        self._bases.add((base.digest, base.uri))
        self.counts["bases"] += 1

        def digest() -> str:
            folders = find_base(self._registry.base_folder(base))
            return base_digest(folders.weights, folders.tokenizer)

        found: str | None = self._try(f"{where}: base model", digest)
        if found is not None and found != base.digest:
            self._problem(
                f"{where}: base model",
                f"{base.uri} has digest {found[:12]}, not {base.digest[:12]}",
            )

    def _aliases(self, name: str, versions: list[VersionInfo]) -> None:
        entries = self._registry.ledger(name)
        self.counts["entries"] += len(entries)
        known = {info.digest: info.version for info in versions}
        for number, missing in _gaps(list(entries)):
            self._problem(f"{name}: ledger", f"entry {missing} is missing before {number}")
        for alias in sorted({e.alias for e in entries.values() if isinstance(e, Move)}):
            moves = moves_of(entries, alias)
            holder = holder_of(self._registry, name, alias)
            wanted = moves[-1].to if moves else None
            if not moves or (holder.digest if holder else None) == wanted:
                continue
            gone = wanted not in known
            fixed = self._fix and not gone and self._settled(name, alias)
            found = f"version {holder.version}" if holder else "nothing"
            told = "a version that is gone" if gone else f"version {known[wanted or '']}"
            self._problem(
                f"{name}: alias {alias}",
                f"it points at {found}, but the ledger says {told}",
                fixable=not gone,
                fixed=fixed,
            )

    def _settled(self, name: str, alias: str) -> bool:
        """Move an alias to where the ledger says; a server that enforces gates may refuse it."""
        try:
            settle_alias(self._registry, name, alias)
        except GateError as error:
            self._problem(f"{name}: alias {alias}", error.message)
            return False
        return True

    def _orphans(self, name: str) -> None:
        leftovers = self._registry.leftovers(name)
        needed = needed_runs(self._registry, [name])
        self.orphans += [orphan_of(name, left) for left in leftovers if left.id not in needed]

    def _problem(
        self, where: str, message: str, *, fixable: bool = False, fixed: bool = False
    ) -> None:
        self.problems.append(Problem(where=where, message=message, fixable=fixable, fixed=fixed))

    def _try(self, where: str, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except MlflowEditError as error:
            self._problem(where, error.message)
            return None


def _gaps(numbers: list[int]) -> Iterator[tuple[int, int]]:
    for expected, number in enumerate(sorted(numbers), start=1):
        if number != expected:
            yield number, expected
            return
