"""What a model makes of given answers: logits where each token of them is wanted."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from mlflow_edit.models.activations import batches, right_padded
from mlflow_edit.models.base_model import BaseModel
from mlflow_edit.models.idle_blocks import head_only_at
from mlflow_edit.models.upper_blocks import Example, Predictions


def predict_answers(base: BaseModel, examples: Sequence[Example], *, model: Any) -> Predictions:
    """Run `model`, the base's or one built like it, over prompts and answers, in one pass.

    The rows of what is returned are the examples' owners.
    """
    owners = torch.tensor([example.owner for example in examples], device=base.device)
    if base.task == "classifier":
        ids, mask = right_padded(base, [example.prompt for example in examples])
        wanted = torch.tensor([example.answer[0] for example in examples], device=base.device)
        logits = model(input_ids=ids, attention_mask=mask).logits
        return Predictions(logits.float(), wanted, owners)
    if base.task == "seq2seq":
        ids, mask = right_padded(base, [example.prompt for example in examples])
        start = model.config.decoder_start_token_id
        before, _ = right_padded(base, [(start, *example.answer[:-1]) for example in examples])
        firsts = [0] * len(examples)
        inputs = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": before}
    else:
        ids, mask = right_padded(base, [(*one.prompt, *one.answer[:-1]) for one in examples])
        firsts = [len(example.prompt) - 1 for example in examples]
        inputs = {"input_ids": ids, "attention_mask": mask}
    places = [
        (row, first + i, token)
        for row, (first, example) in enumerate(zip(firsts, examples, strict=True))
        for i, token in enumerate(example.answer)
    ]
    rows, positions, wanted = torch.tensor(places, device=base.device).T
    with head_only_at(model, rows, positions):
        logits = model(**inputs, use_cache=False).logits
    return Predictions(logits[0].float(), wanted, owners[rows])


def example_batches(examples: Sequence[Example]) -> Iterator[list[Example]]:
    """Group examples of like length into passes of bounded size."""
    for group in batches([len(example.prompt) + len(example.answer) for example in examples]):
        yield [examples[i] for i in group]
