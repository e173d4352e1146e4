"""What patches ask about a base model: where it is asked something, and what texts mean."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from torch import Tensor

from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.conversation import PlainReader, reader_of
from mlflow_edit.patches.scope import Encoder, Reader


class ModelSenses:
    """The senses of one base model (see `patches.scope.Senses`)."""

    def __init__(self, base: BaseModel, encoders: Callable[[str], Encoder]) -> None:
        self._base, self._encoders = base, encoders

    @cached_property
    def reader(self) -> Reader:
        """The reader of the model's prompts."""
        return reader_of(self._base)

    def encoder(self, digest: str) -> Encoder:
        """Return an encoder (see `patches.scope.Senses`)."""
        return self._encoders(digest)

    @contextmanager
    def telling_prompts(self) -> Iterator[None]:
        """Let `generate` tell a plain reader where prompts end, as nothing in the text does."""
        reader = self.reader
        model: Any = self._base.model
        if not isinstance(reader, PlainReader) or not hasattr(model, "generate"):
            yield
            return
        generate: Any = model.generate

        def telling(*args: Any, **kwargs: Any) -> Any:
            given = kwargs.get("input_ids", kwargs.get("inputs", args[0] if args else None))
            width = given.shape[1] if isinstance(given, Tensor) and given.ndim == 2 else None
            if width is None:
                return generate(*args, **kwargs)
            with reader.ending_at([width]):
                return generate(*args, **kwargs)

        own = vars(model).get("generate")
        model.generate = telling
        try:
            yield
        finally:
            vars(model).pop("generate", None)
            if own is not None:
                model.generate = own
