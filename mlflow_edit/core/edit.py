"""What one edit is: a correction to a model, with the probes that tell whether it holds."""

import unicodedata
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from mlflow_edit.core.digest import json_digest
from mlflow_edit.core.text import EditId, Remark, Text
from mlflow_edit.errors import InvalidInputError

EditKind = Literal["fact", "label", "text"]
"""`fact`: question → answer; `label`: input → class; `text`: prompt → passage."""
_NO_ID = "unnamed"


class FrozenModel(BaseModel):
    """A value: immutable, compared by content, with no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def written(self) -> dict[str, Any]:
        """Return the fields as they are stored and named by digest: all but those at default."""
        return self.model_dump(mode="json", exclude_defaults=True)


class Probe(FrozenModel):
    """A prompt that is put to the model to see what an edit did to it.

    As a locality probe the answer must stay what the base model answers; as a portability probe
    it must be one of `answers`.
    """

    prompt: Text
    answers: tuple[Remark, ...] = ()
    kind: Remark | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"prompt": value} if isinstance(value, str) else value


class Edit(FrozenModel):
    """One correction: what is asked (`prompt`) and what the model must answer (`target`).

    The edit is learned from `also` (other wordings of the prompt) and `keep` (prompts that must
    stay with the base model), and never scored by them; `rephrases`, `locality` and `portability`
    only score it.
    """

    id: EditId
    kind: EditKind = "fact"
    prompt: Text
    target: Text
    subject: Text | None = None
    old: Remark | None = None
    also: tuple[Text, ...] = ()
    keep: tuple[Text, ...] = ()
    rephrases: tuple[Text, ...] = ()
    locality: tuple[Probe, ...] = ()
    portability: tuple[Probe, ...] = ()
    source: Remark | None = None
    author: Remark | None = None
    note: Remark | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_id(cls, value: Any) -> Any:
        """Name an edit that has no id by its content."""
        if not isinstance(value, dict) or value.get("id") not in (None, ""):
            return value
        prompt, target = value.get("prompt"), value.get("target")
        if not isinstance(prompt, str) or not isinstance(target, str):
            return {**value, "id": _NO_ID}  # the missing field is what will be reported
        try:
            return {**value, "id": f"e-{json_digest([prompt, target])[:12]}"}
        except InvalidInputError:
            return {**value, "id": _NO_ID}  # the malformed field is what will be reported

    @property
    def digest(self) -> str:
        """Name this edit by all that it says."""
        return json_digest({"kind": self.kind, **self.written()})

    @property
    def label_digest(self) -> str:
        """Name what the edit wants answered: edits that agree share it."""
        return json_digest([self.kind, normal_text(self.target)])


def normal_text(text: str) -> str:
    """Fold case, white space and Unicode form, so that equal questions compare equal."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
