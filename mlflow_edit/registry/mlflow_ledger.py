"""The ledger of a model in MLflow, and its aliases.

An entry is a parameter of the run that made version 1. Parameters of a run are write-once on every
SQL store: of several writers of one number the store lets exactly one succeed. That is the only
atomic claim that MLflow offers, and it gives decisions their order.
"""

import re
import time
from collections.abc import Mapping
from contextlib import suppress

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlflow_edit.core.digest import canonical_json
from mlflow_edit.core.gate import Gate, parse_gate
from mlflow_edit.core.ledger import Entry, entry_text, read_entry
from mlflow_edit.core.protection import GATE_TAG, gate_texts
from mlflow_edit.errors import MlflowEditError, RegistryError, VersionNotFound
from mlflow_edit.registry.mlflow_errors import mlflow_errors

PREFIX = "mledit.ledger."
_KEY = re.compile(r"mledit\.ledger\.([0-9]{6})")
RETRIES = 5  # of two first writers of an alias, sqlite lets one fail


def read_ledger(client: MlflowClient, name: str) -> dict[int, Entry]:
    """Read all entries, by number."""
    with mlflow_errors(f"reading the ledger of {name}"):
        params = client.get_run(_ledger_run(client, name)).data.params
    return entries_of(params)


def entries_of(params: Mapping[str, str]) -> dict[int, Entry]:
    """Read the entries among the parameters of the run that made version 1.

    Raises:
        IntegrityError: one is malformed.
    """
    matches = [(_KEY.fullmatch(key), text) for key, text in params.items()]
    texts = {int(match[1]): text for match, text in matches if match is not None}
    return {number: read_entry(texts[number], number=number) for number in sorted(texts)}


def append_entry(client: MlflowClient, name: str, number: int, entry: Entry) -> bool:
    """Claim a number for an entry; False where it is taken.

    Where the store fails after it has written, the entry is there all the same: it is looked up
    before the failure is believed.
    """
    text = entry_text(entry)
    run_id, key = _ledger_run(client, name), f"{PREFIX}{number:06d}"
    try:
        with mlflow_errors(f"writing to the ledger of {name}"):
            client.log_param(run_id, key, text)
    except (MlflowEditError, KeyboardInterrupt):
        found = None
        with suppress(MlflowEditError), mlflow_errors("looking for the entry"):
            found = client.get_run(run_id).data.params.get(key)
        if found is None:
            raise
        return bool(found == text)
    return True


def point_alias(client: MlflowClient, name: str, alias: str, version: int | None) -> None:
    """Point an alias at a version, or delete it."""
    for attempt in range(RETRIES):
        try:
            with mlflow_errors(f"moving the alias {alias} of {name}"):
                if version is None:
                    client.delete_registered_model_alias(name, alias)
                else:
                    client.set_registered_model_alias(name, alias, str(version))
            return
        except RegistryError as error:
            cause = error.__cause__
            raced = isinstance(cause, MlflowException) and "IntegrityError" in str(cause)
            if not raced or attempt == RETRIES - 1:
                raise
            time.sleep(0.05 * 2**attempt)


def read_gates(client: MlflowClient, name: str) -> dict[str, Gate]:
    """Read the gates among the tags of a model, by alias.

    Raises:
        InvalidInputError: one cannot be read.
    """
    with mlflow_errors(f"reading the gates of {name}"):
        tags = client.get_registered_model(name).tags
    return {alias: parse_gate(text) for alias, text in sorted(gate_texts(tags).items())}


def write_gate(client: MlflowClient, name: str, alias: str, gate: Gate | None) -> None:
    """Write a gate as a tag of a model, or delete the tag."""
    with mlflow_errors(f"changing the gate of {alias} of {name}"):
        if gate is None:
            client.delete_registered_model_tag(name, GATE_TAG + alias)
        else:
            text = canonical_json(gate.written()).decode()
            client.set_registered_model_tag(name, GATE_TAG + alias, text)


def _ledger_run(client: MlflowClient, name: str) -> str:
    """Return the run that made version 1.

    Raises:
        VersionNotFound: there is no version 1, or no more.
    """
    try:
        with mlflow_errors(f"looking for version 1 of {name}"):
            return str(client.get_model_version(name, "1").run_id)
    except VersionNotFound as error:
        raise VersionNotFound(
            f"the ledger of {name} is gone with its version 1",
            hint=f"Versions of {name} can be read, but no longer be promoted or reviewed.",
        ) from error
