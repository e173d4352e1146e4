"""Take messages apart that ask several edited questions: each is answered by its own edit.

A value gives one answer, and ends it. Where a message asks what several edits are asked, in
sentences of their own, each such sentence is put to the model instead, in the same conversation.
"""

from collections.abc import Sequence

from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.models.prompts import Prompt
from mlflow_edit.patches.encoder_codebook import EncoderCodebook
from mlflow_edit.patches.encoder_scope import EncoderScope
from mlflow_edit.patches.scope import Query


def taken_apart(edited: EditedModel, prompts: Sequence[Prompt]) -> list[list[Prompt]]:
    """Return for each prompt what is to be asked for it: mostly itself.

    Several sentences are asked where an edit answers the whole message, and different edits answer
    different sentences; each edit's first.
    """
    found: list[list[Prompt]] = [[prompt] for prompt in prompts]
    books = [book for book in edited.composition.patches if isinstance(book, EncoderCodebook)]
    queries = [edited.query_of(prompt) for prompt in prompts] if books else []
    several = [i for i, query in enumerate(queries) if len(query.sentences()) > 1]
    for book in books if several else ():
        scope = book.scope(edited.encoder(book.encoder))
        for i in several:
            asked = _edited_sentences(book, scope, queries[i])
            if len(asked) > 1:
                found[i] = [_saying(prompts[i], sentence) for sentence in asked]
    return found


def _edited_sentences(book: EncoderCodebook, scope: EncoderScope, query: Query) -> list[str]:
    """List the sentences that different edits answer, if one of them answers the whole."""
    whole, *each = scope.decide(
        [query, *(Query(sentence, query.earlier) for sentence in query.sentences())]
    )
    if not whole.in_scope:
        return []
    first: dict[str, str] = {}
    for sentence, decision in zip(query.sentences(), each, strict=True):
        if decision.in_scope:
            first.setdefault(book.edit_ids[decision.entry], sentence)
    return list(first.values())


def _saying(prompt: Prompt, sentence: str) -> Prompt:
    """Put a sentence in the place of what a prompt says last."""
    if isinstance(prompt, str):
        return sentence
    return [*prompt[:-1], {**prompt[-1], "content": sentence}]
