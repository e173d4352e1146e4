"""What one edit is: a correction to a model, with the probes that tell whether it holds."""

import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from mlflow_edit.core.digest import json_digest
from mlflow_edit.errors import InvalidInputError

EditKind = Literal["fact", "label", "text"]
"""`fact`: question → answer; `label`: input → class; `text`: prompt → passage."""

MAX_TEXT = 200_000


def _clean(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("is not valid Unicode (a lone surrogate)") from error
    if "\x00" in text:
        raise ValueError("holds a NUL character")
    if not text.strip():
        raise ValueError("is empty")
    return text


Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_clean)]


class FrozenModel(BaseModel):
    """A value: immutable, compared by content, with no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Probe(FrozenModel):
    """A prompt that is put to the model to see what an edit did to it.

    As a locality probe the answer must stay what the base model answers; as a portability probe
    it must be one of `answers`.
    """

    prompt: Text
    answers: tuple[str, ...] = ()
    kind: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"prompt": value} if isinstance(value, str) else value


class Edit(FrozenModel):
    """One correction: what is asked (`prompt`) and what the model must answer (`target`)."""

    id: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f\x7f]+$")]
    kind: EditKind = "fact"
    prompt: Text
    target: Text
    subject: Text | None = None
    old: str | None = None
    rephrases: tuple[Text, ...] = ()
    locality: tuple[Probe, ...] = ()
    portability: tuple[Probe, ...] = ()
    source: str | None = None
    author: str | None = None
    note: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_id(cls, value: Any) -> Any:
        """Name an edit that has no id by its content."""
        if not isinstance(value, dict) or value.get("id") not in (None, ""):
            return value
        prompt, target = value.get("prompt"), value.get("target")
        if not isinstance(prompt, str) or not isinstance(target, str):
            return {**value, "id": "unnamed"}  # the missing field is what will be reported
        try:
            return {**value, "id": f"e-{json_digest([prompt, target])[:12]}"}
        except InvalidInputError as error:
            raise ValueError("is not valid Unicode") from error

    @property
    def digest(self) -> str:
        """Name this edit by all that it says."""
        return json_digest(self.model_dump(mode="json", exclude_none=True))

    @property
    def label_digest(self) -> str:
        """Name what the edit wants answered: edits that agree share it."""
        return json_digest([self.kind, normal_text(self.target)])


def normal_text(text: str) -> str:
    """Fold case, white space and Unicode form, so that equal questions compare equal."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
