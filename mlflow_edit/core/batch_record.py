"""What a stored batch is made of, by digest: the unit that is kept once and never changed."""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from mlflow_edit.core.manifest import Digest, Digests
from mlflow_edit.core.sealed import Sealed
from mlflow_edit.core.text import NORMAL, READABLE

BATCH_FORMAT: Final = "mledit.batch/1"

Name = Annotated[str, Field(min_length=1, max_length=100), NORMAL, READABLE]
ParamValue = Annotated[str, NORMAL, READABLE] | int | float | bool | None


class BatchRecord(Sealed):
    """The base model, the editor with its settings, the edits and the patch that came of them.

    `context`: the delta batches on top of which it was learned.
    """

    what: ClassVar[str] = "batch"

    format: Literal["mledit.batch/1"] = BATCH_FORMAT
    base: Digest
    editor: Name
    params: dict[Name, ParamValue]
    kind: Literal["codebook", "delta", "memory"]
    n_edits: Annotated[int, Field(ge=0)]
    edits: Digest
    patch: Digest
    context: Digests = ()
