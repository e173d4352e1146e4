"""The MLflow flavor: what `mlflow.pyfunc.load_model` and `mlflow models serve` load.

Stock MLflow imports this module by the name that stands in `MLmodel`; nothing else is installed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.models import Model

from mlflow_edit.core.manifest import BaseRef, Manifest
from mlflow_edit.errors import DigestMismatch, EditNotFound, InvalidInputError
from mlflow_edit.evaluation.generation import Answer, generate_answers
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.models.prompts import Prompt
from mlflow_edit.patches.composition import Part, compose
from mlflow_edit.registry.exported import ExportedVersion
from mlflow_edit.registry.names import MANIFEST
from mlflow_edit.registry.pinned_base import load_pinned
from mlflow_edit.registry.registry import Registry
from mlflow_edit.registry.stored_batch import StoredBatch
from mlflow_edit.registry.version_files import FLAVOR


def load_edited(
    registry: Registry | ExportedVersion,
    manifest: Manifest,
    *,
    device: str | None = None,
    dtype: str | None = None,
    device_map: Any = None,
    base_folder: Path | None = None,
    disabled: frozenset[str] = frozenset(),
) -> EditedModel:
    """Load the base model of a version and put its batches in force, verifying all of it.

    Raises:
        EditNotFound: an edit to be `disabled` is not in the version.
        InvalidInputError: it is part of a weight delta, and others of its batch are not left out.
        BaseMismatchError: the base model is not the one that the manifest names.
        IntegrityError: a batch is missing or damaged.
    """
    batches = registry.batches(manifest)
    known = {edit for batch in batches.values() for edit in batch.patch.edit_ids_used()}
    if strangers := sorted(disabled - known):
        raise EditNotFound(f"no edit {strangers[0]!r} to disable in this version")
    _check_apart(batches, disabled)
    parts = [
        Part(digest, batch.patch, manifest.excluded(digest) | disabled)
        for digest, batch in batches.items()
    ]
    base = load_pinned(
        registry,
        manifest.base,
        folder=base_folder,
        device=device,
        dtype=dtype,
        device_map=device_map,
    )
    edited = EditedModel(base, compose(parts))
    if not disabled:
        check_weights(edited, manifest)
    return edited


def check_weights(edited: EditedModel, manifest: Manifest) -> None:
    """Check that the weights in force are those that were registered.

    A base that was rounded on loading, into a shorter type than it is stored in, cannot tell.

    Raises:
        DigestMismatch: they are not.
    """
    if edited.base.rounded or edited.weights_digest == manifest.weights:
        return
    found, wanted = edited.weights_digest or "none", manifest.weights or "none"
    edited.detach()
    raise DigestMismatch(
        f"the weights of this version have digest {found[:12]}, expected {wanted[:12]}",
        hint="The base model, or a library that computes with it, is not what it was.",
    )


def _check_apart(batches: Mapping[str, StoredBatch], disabled: frozenset[str]) -> None:
    for digest, batch in batches.items():
        used = batch.patch.edit_ids_used()
        if batch.patch.kind == "delta" and disabled & used and used - disabled:
            raise InvalidInputError(
                f"edit {min(disabled & used)!r} is part of the weights of batch {digest[:12]}",
                hint="Disable every edit of the batch, or learn it again without: mledit revert.",
            )


class PyfuncModel:
    """Answers prompts through `mlflow.pyfunc`: a list or column of prompts, or chat messages."""

    def __init__(self, edited: EditedModel) -> None:
        self.edited = edited

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[Any]:
        """Answer prompts.

        Args:
            model_input: a prompt, a list of prompts or of conversations, a table with a column
                `prompt` (or `messages`, or only one column), or `{"messages": […]}`.
            params: `max_new_tokens` (128), `temperature` (0: greedy) and `explain` (False).

        Returns:
            One answer for each prompt; with `explain`, `{answer, edit_id, batch, distance,
            radius}`, null where the base model answered.

        Raises:
            InvalidInputError: the input is none of these, or a parameter is out of range.
        """
        given = params or {}
        length, temperature = given.get("max_new_tokens", 128), given.get("temperature", 0.0)
        if length < 1 or not 0 <= temperature < float("inf"):
            raise InvalidInputError(
                f"max_new_tokens is {length} and temperature {temperature}",
                hint="max_new_tokens is at least 1, temperature at least 0 (greedy).",
            )
        answers = generate_answers(
            self.edited,
            prompts_of(model_input),
            max_new_tokens=int(length),
            temperature=float(temperature),
        )
        if not given.get("explain"):
            return [answer.text for answer in answers]
        return [_explained(answer) for answer in answers]


def prompts_of(model_input: Any) -> list[Prompt]:
    """Read prompts from whatever shape MLflow hands over.

    Raises:
        InvalidInputError: no prompts are found in it.
    """
    if hasattr(model_input, "columns"):
        columns = list(model_input.columns)
        chosen = next((c for c in ("prompt", "messages") if c in columns), None)
        if chosen is None and len(columns) == 1:
            chosen = columns[0]
        if chosen is None:
            raise InvalidInputError(f"no column 'prompt' or 'messages' among {columns}")
        model_input = model_input[chosen].tolist()
    elif isinstance(model_input, dict):
        if "messages" in model_input:
            messages = _listed(model_input["messages"])
            model_input = [messages] if messages and isinstance(messages[0], dict) else messages
        else:
            model_input = model_input.get("prompt", model_input.get("inputs"))
    model_input = _listed(model_input)
    if isinstance(model_input, str):
        model_input = [model_input]
    if isinstance(model_input, list) and model_input and isinstance(model_input[0], dict):
        if "role" in model_input[0]:
            model_input = [model_input]
        else:
            model_input = [p for row in model_input for p in prompts_of(row)]
    if not isinstance(model_input, list) or not all(map(_is_prompt, model_input)):
        raise InvalidInputError(
            "expected prompts: a list of text, a column 'prompt', or chat messages",
            hint='For example ["Who won the FIFA World Cup in 2022?"]',
        )
    return [p if isinstance(p, str) else list(p) for p in map(_listed, model_input)]


def _listed(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _is_prompt(value: Any) -> bool:
    value = _listed(value)
    if isinstance(value, str):
        return bool(value.strip())
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(m, dict) and {"role", "content"} <= m.keys() for m in value)
    )


def _explained(answer: Answer) -> dict[str, Any]:
    fired = answer.fired
    return {
        "answer": answer.text,
        "edit_id": fired.edit_id if fired else None,
        "batch": fired.batch if fired else None,
        "distance": fired.distance if fired else None,
        "radius": fired.radius if fired else None,
        "match": fired.match if fired else None,
    }


def _load_pyfunc(path: str, model_config: dict[str, Any] | None = None) -> PyfuncModel:
    """Load a version for `mlflow.pyfunc`; the base may come from elsewhere, if it is the same."""
    from mlflow_edit.registry.mlflow_registry import MlflowRegistry

    config = model_config or {}
    model = Model.load(str(path))
    if ExportedVersion.is_at(Path(path)):
        sealed = (model.flavors or {}).get(FLAVOR, {}).get("digest")
        manifest = Manifest.from_bytes((Path(path) / MANIFEST).read_bytes(), digest=sealed)
        edited = load_edited(
            ExportedVersion(Path(path)),
            manifest,
            device=config.get("device") or None,
            dtype=config.get("dtype") or None,
            disabled=_disabled(config),
        )
        return PyfuncModel(edited)
    registry = MlflowRegistry()
    sealed = registry.digest_of(model.model_id) if model.model_id else None
    sealed = sealed or (model.flavors or {}).get(FLAVOR, {}).get("digest")
    manifest = Manifest.from_bytes((Path(path) / MANIFEST).read_bytes(), digest=sealed)
    uri = config.get("base_model_uri") or manifest.base.uri
    folder = None
    if uri != manifest.base.uri:
        base = BaseRef(digest=manifest.base.digest, uri=uri)
        folder = Path(uri) if Path(uri).is_dir() else registry.base_folder(base)
    edited = load_edited(
        registry,
        manifest,
        device=config.get("device") or None,
        dtype=config.get("dtype") or None,
        base_folder=folder,
        disabled=_disabled(config),
    )
    return PyfuncModel(edited)


def _disabled(config: dict[str, Any]) -> frozenset[str]:
    """Read the edits to leave out: a list, or text with commas between."""
    given = config.get("disabled") or ()
    ids = given.split(",") if isinstance(given, str) else given
    return frozenset(str(one).strip() for one in ids if str(one).strip())
