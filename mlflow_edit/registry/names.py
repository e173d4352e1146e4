"""The names of things: models, references to versions, tags and artifact paths."""

import re
from dataclasses import dataclass
from urllib.parse import urlparse

from mlflow_edit.errors import InvalidInputError

BASES_EXPERIMENT, PLAIN_EXPERIMENT = "mledit-bases", "mledit-plain"
MANIFEST, SCORECARD, REVIEW, RESULTS = (
    "manifest.json",
    "scorecard.json",
    "review.html",
    "results.json",
)

REVIEW_TAG = "mledit.review"  # of a version: where it is reviewed, or what was said of it

RECORD, EDITS, PATCH = "batch.json", "edits.jsonl", "patch.safetensors"
BATCH_FILES = (RECORD, EDITS, PATCH)

HEAD = "head"
_NAME = re.compile(r"[^\s/:@#%\\?&\"'<>\x00-\x1f\x7f\ud800-\udfff]{1,120}")
_REF = re.compile(r"[A-Za-z0-9_-]{1,255}")


@dataclass(frozen=True, slots=True)
class VersionRef:
    """`NAME@REF`: a model and one of its versions, by number, alias, `head` or digest prefix."""

    name: str
    ref: str = HEAD

    def __str__(self) -> str:
        return f"{self.name}@{self.ref}"


def model_name(text: str) -> str:
    """Check the name of a registered model.

    Raises:
        InvalidInputError: it holds what a URI, a path or a shell would misread.
    """
    if not _NAME.fullmatch(text) or text in (".", ".."):
        raise InvalidInputError(
            f"{text!r} cannot be the name of a model",
            hint="Use letters, digits, '-', '_' and '.', at most 120.",
        )
    return text


def parse_ref(text: str) -> VersionRef:
    """Read `NAME@REF`, `NAME` (its head), `models:/NAME/3` or `models:/NAME@alias`.

    Raises:
        InvalidInputError: it is none of these.
    """
    rest = text.removeprefix("models:/")
    name, at, ref = rest.partition("@")
    if not at and rest != text:
        name, at, ref = rest.partition("/")
    ref = ref.lstrip("v") if re.fullmatch(r"v\d+", ref) else ref
    if at and not _REF.fullmatch(ref):
        raise InvalidInputError(
            f"{text!r} names no version",
            hint="Write NAME@REF: a number, an alias, 'head' or the beginning of a digest.",
        )
    return VersionRef(model_name(name), ref or HEAD)


def experiment_name(name: str) -> str:
    """Return the experiment that holds the runs of a model."""
    return f"mledit/{name}"


def batch_path(digest: str) -> str:
    """Return where a batch lies among the artifacts of its run."""
    return f"batches/{digest}"


def shown_uri(uri: str) -> str:
    """Return a URI that may be shown: a password in it is masked."""
    parsed = urlparse(uri)
    account, at, host = parsed.netloc.rpartition("@")
    user, colon, _ = account.partition(":")
    return parsed._replace(netloc=f"{user}:***{at}{host}").geturl() if colon else uri
