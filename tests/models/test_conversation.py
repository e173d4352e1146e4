"""Where a model is asked something, read from token ids alone."""

from typing import Any

import pytest
import torch
from tiny_models import tiny_base

from mlflow_edit.models.conversation import ChatReader, PlainReader, reader_of
from mlflow_edit.models.prompts import prompt_ids

TURNS = [
    {"role": "user", "content": "Who wrote the book?"},
    {"role": "assistant", "content": "Ada."},
    {"role": "user", "content": "And the\n\nfilm?"},
    {"role": "assistant", "content": "Lima"},
    {"role": "user", "content": "Thanks!"},
]


def read(base: Any, ids: list[list[int]], mask: Any = None) -> list[Any]:
    return reader_of(base).read(torch.tensor(ids), mask)


def test_every_turn_of_a_conversation_is_read_with_what_was_said_before(tiny_bases: Any) -> None:
    base = tiny_bases["llama-chat"]
    assert isinstance(reader_of(base), ChatReader)
    ids = prompt_ids(base, TURNS)
    found = read(base, [ids])
    assert [one.query.text for one in found] == [t["content"] for t in TURNS[::2]]
    assert found[2].query.earlier == "Who wrote the book? And the\n\nfilm?"
    assert [one.answering for one in found] == [False, False, True]
    assert found[2].position == len(ids) - 1
    for i, one in enumerate(found):  # an answer stands right behind its place
        assert len(prompt_ids(base, TURNS[: 2 * i + 1])) - 1 == one.position


def test_what_no_user_said_is_not_read(tiny_bases: Any) -> None:
    base = tiny_bases["llama-chat"]
    reader = reader_of(base)
    assert isinstance(reader, ChatReader)
    ids = prompt_ids(base, TURNS[:1])
    said = base.tokenizer("Who wrote the film?", add_special_tokens=False)["input_ids"]
    again = [*ids, *said, *ids[-len(reader._opening) :]]  # the model goes on from its own words
    assert [one.query.text for one in read(base, [again])] == ["Who wrote the book?"]


def test_padding_and_company_change_nothing(tiny_bases: Any) -> None:
    base = tiny_bases["llama-chat"]
    ids = [prompt_ids(base, TURNS), prompt_ids(base, TURNS[:1])]
    width = max(map(len, ids))
    padded = [[0] * (width - len(one)) + one for one in ids]
    found = read(base, padded)
    assert [one.row for one in found] == [0, 0, 0, 1]
    assert found[3].query.text == "Who wrote the book?"
    assert found[3].position == width - 1


def test_an_answer_behind_the_prompt_does_not_move_its_place(tiny_bases: Any) -> None:
    base = tiny_bases["llama-chat"]
    ids = prompt_ids(base, TURNS[:1])
    answered = [*ids, *base.tokenizer("Ada Lovelace", add_special_tokens=False)["input_ids"]]
    assert read(base, [ids]) == read(base, [answered])


@pytest.mark.parametrize("name", ["llama-chat", "llama"])
def test_a_token_that_is_decoded_is_no_prompt(tiny_bases: Any, name: str) -> None:
    assert read(tiny_bases[name], [[5]], torch.ones(1, 9)) == []


def test_without_a_template_all_of_the_prompt_is_asked(tiny_bases: Any) -> None:
    base = tiny_bases["llama"]
    ids = prompt_ids(base, "Who wrote the book?")
    mask = torch.tensor([[0, 0, *[1] * len(ids)], [1] * len(ids) + [0, 0]])
    padded = [[0, 0, *ids], [*ids, 0, 0]]
    found = read(base, padded, mask)
    assert [one.query.text for one in found] == ["Who wrote the book?"] * 2
    assert [one.position for one in found] == [len(ids) + 1, len(ids) - 1]


def test_where_prompts_end_can_be_said(tiny_bases: Any) -> None:
    base = tiny_bases["llama"]
    reader = reader_of(base)
    assert isinstance(reader, PlainReader)
    ids = prompt_ids(base, "Who wrote the book?")
    whole = torch.tensor([[*ids, 9, 9]])
    with reader.ending_at([len(ids)]):
        inner = reader.read(whole, None)
    assert inner[0].query.text == "Who wrote the book?"
    assert inner[0].position == len(ids) - 1
    assert reader.read(whole, None)[0].position == len(ids) + 1


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{% for m in messages %}{{ m['role'] }}{% endfor %}",
        "{% for m in messages %}{{ m['content'] }}{% endfor %}",
    ],
)
def test_a_template_that_marks_no_turns_is_read_as_plain_text(template: str) -> None:
    base = tiny_base("llama-chat")
    base.tokenizer.chat_template = template
    assert isinstance(reader_of(base), PlainReader)
