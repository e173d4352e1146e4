"""A registry store that refuses to move a protected alias past its gate, whichever client asks.

`mlflow server --registry-store-uri mledit+sqlite:///…` or `mledit+postgresql://…`. The server does
not take a client's word: it reads the ledger, and holds the stored scorecard against the gate.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, PERMISSION_DENIED
from mlflow.store.model_registry.abstract_store import AbstractStore

from mlflow_edit.core.approval import Opinion
from mlflow_edit.core.gate import parse_gate
from mlflow_edit.core.ledger import Entry, verdicts_on
from mlflow_edit.core.protection import (
    GATE_TAG,
    HELD_TAG,
    MAX_GATE_TAG,
    MAX_PROTECTED,
    gate_texts,
    objection,
)
from mlflow_edit.errors import InvalidInputError, MlflowEditError
from mlflow_edit.registry import mlflow_insides
from mlflow_edit.registry.evidence import Evidence, Facts
from mlflow_edit.registry.mlflow_errors import REFUSED

PREFIX = "mledit+"
MODEL_TAG, REVIEW_TAG, REGISTERED_BY = "mledit.model", "mledit.review", "mledit.registered_by"
_VERBS = {"approved": "approve", "rejected": "reject"}
_STAGES = {"staging", "production"}


def enforcing_store(store_uri: str) -> Any:
    """Open MLflow's SQL registry store with gates enforced.

    Args:
        store_uri: that of the database, with `mledit+` before it.

    Raises:
        MlflowException: this release of MLflow lacks what enforcement needs.
    """
    mlflow_insides.check_release()
    made = type("EnforcingStore", (Enforcement, mlflow_insides.sql_store()), {})
    return made(store_uri.removeprefix(PREFIX), read_db_uri=mlflow_insides.read_replica())


class Enforcement(AbstractStore):  # type: ignore[misc]
    """The rules, before MLflow's own SQL store; it comes behind this class in the order of calls.

    A model is protected when it has a gate: a tag `mledit.gate.ALIAS`. Each method refuses what the
    rules forbid, with 403, and else does what the store does.
    """

    def set_registered_model_alias(self, name: str, alias: str, version: Any) -> None:
        """Point an alias at a version, if it may hold it."""
        model = self.get_registered_model(name)
        holder = model.aliases.get(alias)
        moved = holder is None or int(holder) != int(version)
        if alias in gate_texts(model.tags) and moved:
            self._admit(model, alias, int(version))
        super().set_registered_model_alias(name, alias, version)

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        """Delete an alias that is not protected."""
        model = self.get_registered_model(name)
        if alias in gate_texts(model.tags) and alias in model.aliases:
            raise _refused(f"the alias {alias} of {name} cannot be deleted", _TAKE_OFF)
        super().delete_registered_model_alias(name, alias)

    def transition_model_version_stage(
        self, name: str, version: Any, stage: str, archive_existing_versions: bool
    ) -> Any:
        """Move a version to a stage; a stage named as a protected alias follows the alias."""
        model, found = self.get_registered_model(name), self.get_model_version(name, version)
        was, to = str(found.current_stage), stage
        held = {alias for alias, n in model.aliases.items() if int(n) == int(found.version)}
        held_stages = {alias.lower() for alias in held}
        for guarded in gate_texts(model.tags):
            named = guarded.lower() if guarded.lower() in _STAGES else None
            enters = to.lower() == named and guarded not in held
            leaves = was.lower() == named and guarded in held and to.lower() not in held_stages
            if enters or leaves:
                what = f"{name}@{version} cannot move from stage {was} to {to}"
                raise _refused(what, f"the stage follows the alias: {_promote(name, guarded)}")
        return super().transition_model_version_stage(
            name, version, stage, archive_existing_versions
        )

    def delete_model_version(self, name: str, version: Any) -> None:
        """Delete a version that holds no protected alias and no ledger."""
        model = self.get_registered_model(name)
        number = int(self.get_model_version(name, version).version)  # MLflow takes 02 for 2
        gates = gate_texts(model.tags)
        holds = [alias for alias in gates if str(model.aliases.get(alias)) == str(number)]
        if holds:
            what = f"{name}@{number} cannot be deleted: it holds the alias {holds[0]}"
            raise _refused(what, f"promote another first: {_promote(name, holds[0])}")
        if gates and number == 1:
            raise _refused(f"{name}@1 cannot be deleted: it holds the ledger", _TAKE_OFF)
        super().delete_model_version(name, version)

    def delete_registered_model(self, name: str) -> None:
        """Delete a model that is not protected."""
        self._refuse_if_protected(name, f"{name} cannot be deleted")
        super().delete_registered_model(name)

    def rename_registered_model(self, name: str, new_name: str) -> Any:
        """Rename a model that is not protected: whoever loads the old name would get another."""
        self._refuse_if_protected(name, f"{name} cannot be renamed")
        return super().rename_registered_model(name, new_name)

    def create_registered_model(self, name: str, tags: Any = None, *more: Any, **named: Any) -> Any:
        """Create a model, whose gates must be readable."""
        for tag in tags or []:
            _check_gate(tag.key, tag.value)
        return super().create_registered_model(name, tags, *more, **named)

    def set_registered_model_tag(self, name: str, tag: Any) -> None:
        """Set a tag; a gate that is there is changed only by who may manage the model."""
        _check_gate(tag.key, tag.value)
        tags = self.get_registered_model(name).tags
        if tags.get(tag.key) not in (None, tag.value):
            self._refuse_unless_manager(name, tag.key, tags)
        super().set_registered_model_tag(name, tag)

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        """Delete a tag; a gate is taken off only by who may manage the model."""
        tags = self.get_registered_model(name).tags
        if key in tags:
            self._refuse_unless_manager(name, key, tags)
        super().delete_registered_model_tag(name, key)

    def create_model_version(
        self, name: str, source: str, run_id: Any = None, tags: Any = None, **named: Any
    ) -> Any:
        """Register a version, and note which user did; a client cannot say it itself.

        Nor that the version is approved: that tag is checked when it is set.
        """
        kept = [tag for tag in tags or [] if not _reserved(tag.key)]
        kept = [tag for tag in kept if tag.key != REVIEW_TAG or tag.value not in _VERBS]
        who = mlflow_insides.user()
        kept += [ModelVersionTag(REGISTERED_BY, who)] if who else []
        return super().create_model_version(name, source, run_id, kept, **named)

    def set_model_version_tag(self, name: str, version: Any, tag: Any) -> None:
        """Set a tag, if it does not say of a version what is not so: a gate may come later."""
        self._refuse_reserved(tag.key)
        self._check_said(name, int(version), tag.key, tag.value)
        super().set_model_version_tag(name, version, tag)

    def delete_model_version_tag(self, name: str, version: Any, key: str) -> None:
        """Delete a tag that says nothing of a version which must be known."""
        self._refuse_reserved(key)
        if key in (REVIEW_TAG, "mledit.digest", "mledit.edits"):
            self._refuse_if_protected(name, f"the tag {key} of {name}@{version} cannot be deleted")
        super().delete_model_version_tag(name, version, key)

    def _admit(self, model: Any, alias: str, version: int) -> None:
        """Refuse a version that may not hold a protected alias, and note who held it before."""
        name, holder = model.name, model.aliases.get(alias)
        what = f"{name}@{version} may not hold the alias {alias}"
        with _refusing(what):
            evidence = Evidence(self, name)
            facts = evidence.version(version)
            gate = parse_gate(gate_texts(model.tags)[alias])
            entries = evidence.entries()
            current = None if holder is None else evidence.version(int(holder))
            said = objection(
                alias,
                facts.digest,
                entries=entries,
                held=HELD_TAG + alias in facts.tags,
                judge=lambda: gate.check(
                    evidence.scorecard(facts),
                    evidence.scorecard(current) if current else None,
                    opinions=[_opinion(facts, entries)],
                ),
            )
        if said:
            raise _refused(f"{what}: {said}", _promote(name, alias, version))
        if holder is not None:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            tag = ModelVersionTag(HELD_TAG + alias, now)
            super().set_model_version_tag(name, str(holder), tag)

    def _check_said(self, name: str, version: int, key: str, value: str) -> None:
        """Check a tag of ours against what the store knows of the version."""
        if key not in (REVIEW_TAG, "mledit.digest", "mledit.edits"):
            return
        if key == REVIEW_TAG and value not in _VERBS:
            return
        what = f"the tag {key} of {name}@{version} cannot be {value!r}"
        with _refusing(what):
            evidence = Evidence(self, name)
            facts = evidence.version(version)
            verdicts = verdicts_on(evidence.entries(), facts.digest)
        if key != REVIEW_TAG:
            if value != facts.shown[key]:
                raise _refused(what, f"it was registered as {facts.shown[key]!r}")
            return
        if (value == "approved") not in verdicts.values():
            advice = f"mledit {_VERBS[value]} {name}@{version}"
            raise _refused(f"{what}: the ledger does not say so", advice)
        who = mlflow_insides.user()
        if value == "approved" and who is not None and who == facts.tags.get(REGISTERED_BY):
            raise _refused(f"{what}: {who} registered it", "ask somebody else to review it")

    def _refuse_if_protected(self, name: str, what: str) -> None:
        if gate_texts(self.get_registered_model(name).tags):
            raise _refused(what, _TAKE_OFF)

    def _refuse_reserved(self, key: str) -> None:
        if _reserved(key):
            raise _refused(f"the tag {key} is written by the server alone", "leave it as it is")

    def _refuse_unless_manager(self, name: str, key: str, tags: dict[str, str]) -> None:
        ours = key.startswith(GATE_TAG) or (key == MODEL_TAG and gate_texts(tags))
        if ours and not mlflow_insides.may_manage(name):
            raise _refused(f"the tag {key} of {name} cannot be changed", _ASK)


def _opinion(facts: Facts, entries: dict[int, Entry]) -> Opinion:
    """Return what reviewers said of the version as a whole, in the ledger and in its tag.

    The ledger takes any name, so no yes counts before the tag, which the server checks against the
    user who writes it. Answers in review queues are not counted: anybody may give them.
    """
    verdicts = verdicts_on(entries, facts.digest)
    checked = facts.tags.get(REVIEW_TAG) == "approved"
    return Opinion(
        "the version",
        author=facts.author,
        passes=tuple(sorted(who for who, yes in verdicts.items() if yes and checked)),
        fails=tuple(sorted(who for who, yes in verdicts.items() if not yes)),
        waiting="nobody approved it by mledit approve",
    )


_ASK = "ask a user who may manage the model, or the operator of the database"
_TAKE_OFF = f"take its gates off first (mledit protect NAME ALIAS --off), or {_ASK}"


def _promote(name: str, alias: str, version: int | str = "REF") -> str:
    return f"mledit promote {name}@{version} --to {alias}"


def _reserved(key: str) -> bool:
    return key.startswith(HELD_TAG) or key == REGISTERED_BY


def _refused(what: str, advice: str) -> MlflowException:
    return MlflowException(f"{REFUSED}: {what}. What to do: {advice}", PERMISSION_DENIED)


def _check_gate(key: str, text: str) -> None:
    """Refuse a gate that cannot be read: it could never be met."""
    if not key.startswith(GATE_TAG):
        return
    try:
        parse_gate(text)
    except InvalidInputError as error:
        said = f"{error.message}. What to do: {error.hint or 'see docs/promotion.md'}"
        raise MlflowException(said, INVALID_PARAMETER_VALUE) from error
    if len(text) > MAX_GATE_TAG or len(key.removeprefix(GATE_TAG)) > MAX_PROTECTED:
        said = f"a gate has at most {MAX_GATE_TAG:,} characters, its alias {MAX_PROTECTED}"
        raise MlflowException(said, INVALID_PARAMETER_VALUE)


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Refuse where what must be looked at cannot be read: no evidence, no move."""
    try:
        yield
    except MlflowEditError as error:
        raise _refused(f"{what}: {error.message}", error.hint or _ASK) from error
    except (MlflowException, OSError) as error:
        said = cast("str", getattr(error, "message", None)) or str(error)
        raise _refused(f"{what}: {said.splitlines()[0][:300]}", _ASK) from error
