"""Take messages apart that say more than one edited question: each is answered by its own edit.

A value gives one answer, and ends it. Where parts of a message ask what edits are asked, sentences
of their own or in one ("Who won, and what is the capital of Peru?"), each such part is put to the
model instead of the message, in the same conversation.
"""

import re
from collections.abc import Sequence

from mlflow_edit.core.edit import normal_text
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.models.prompts import Prompt
from mlflow_edit.patches.encoder_codebook import EncoderCodebook
from mlflow_edit.patches.encoder_scope import EncoderScope
from mlflow_edit.patches.scope import MAX_SENTENCES, Query

_ASKING = (
    r"(?:(?:at|by|for|from|in|of|on|to|with)\s+)?(?:who|whom|whose|what|which|when|where|why|how"
    r"|is|are|was|were|do|does|did|has|have|can|could|tell\s+me)\b"
)
_NEXT_QUESTION = re.compile(
    rf"(?:[,;]|(?<!\s))\s+(?:and|but|or|plus)\s+(?:also\s+|then\s+)?(?={_ASKING})"
    rf"|[,;]\s+(?={_ASKING})",
    re.IGNORECASE,
)


def taken_apart(edited: EditedModel, prompts: Sequence[Prompt]) -> list[list[Prompt]]:
    """Return for each prompt what is to be asked for it: mostly itself.

    Where an edit answers the whole message, other than in the edit's own words, and a part of it as
    well, that part is asked, and those that other edits answer; of each edit the first.
    """
    found: list[list[Prompt]] = [[prompt] for prompt in prompts]
    books = [book for book in edited.composition.patches if isinstance(book, EncoderCodebook)]
    queries = [edited.query_of(prompt) for prompt in prompts] if books else []
    several = {i: asked for i, query in enumerate(queries) if len(asked := _questions(query)) > 1}
    for book in books if several else ():
        scope = book.scope(edited.encoder(book.encoder))
        for i, questions in several.items():
            asked = _edited(book, scope, queries[i], questions)
            if asked:
                found[i] = [_saying(prompts[i], question) for question in asked]
    return found


def _questions(query: Query) -> list[str]:
    """List the sentences of a message, parted where one goes on to ask something else.

    At most the last `MAX_SENTENCES`: each is looked up, and may be put to the model.
    """
    parts = [
        part.removesuffix("?") + "?" if sentence.endswith("?") else part
        for sentence in query.sentences()
        for part in _NEXT_QUESTION.split(sentence)
    ]
    return parts[-MAX_SENTENCES:]


def _edited(
    book: EncoderCodebook, scope: EncoderScope, query: Query, questions: Sequence[str]
) -> list[str]:
    """List the questions that edits answer, if one of these edits answers the whole."""
    whole, *each = scope.decide([query, *(Query(text, query.earlier) for text in questions)])
    first: dict[str, str] = {}
    for question, decision in zip(questions, each, strict=True):
        if decision.in_scope:
            first.setdefault(book.edit_ids[decision.entry], question)
    if not whole.in_scope or book.edit_ids[whole.entry] not in first:
        return []
    own_words = normal_text(book.prompts[whole.entry]) == normal_text(query.text)
    return [] if own_words else list(first.values())


def _saying(prompt: Prompt, question: str) -> Prompt:
    """Put a question in the place of what a prompt says last."""
    if isinstance(prompt, str):
        return question
    return [*prompt[:-1], {**prompt[-1], "content": question}]
