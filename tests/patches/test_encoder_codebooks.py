"""The laws of codebooks whose scope is meaning, on tiny models and with an encoder of words."""

import itertools
from dataclasses import replace
from threading import Thread
from typing import Any

import pytest
import torch
from tiny_models import weights_hash
from word_encoder import WordEncoder, edited_by_meaning, semantic_book

from mlflow_edit.errors import CorruptPatch, DigestMismatch, MlflowEditError, ShapeMismatch
from mlflow_edit.evaluation.generation import generate_answers
from mlflow_edit.models.prompts import prompt_ids
from mlflow_edit.patches.composition import Part, compose
from mlflow_edit.patches.encoder_codebook import EncoderCodebook
from mlflow_edit.patches.encoder_scope import EncoderScope
from mlflow_edit.patches.format import patch_digest, read_patch, write_patch
from mlflow_edit.patches.scope import Query

ASKED = ["Who wrote the book?", "Where does the river begin?", "What colour is the sky at night?"]
OTHER = ["How do plants turn sunlight into food?", "Is it in Peru?"]
NAMES = ["llama-chat", "gpt2", "qwen2-chat", "opt", "gpt-neox"]


@pytest.fixture(params=NAMES)
def base(request: pytest.FixtureRequest, tiny_bases: Any) -> Any:
    return tiny_bases[request.param]


def logits(base: Any, prompt: Any) -> torch.Tensor:
    ids = torch.tensor([prompt_ids(base, prompt)])
    with torch.inference_mode():
        return base.model(input_ids=ids).logits[0, -1]


def test_it_fires_where_the_words_ask_the_same_and_nowhere_else(base: Any) -> None:
    before = {text: logits(base, text) for text in [*ASKED, *OTHER]}
    hashed = weights_hash(base.model)
    with edited_by_meaning(base, semantic_book(base, ASKED)) as edited:
        for i, text in enumerate(ASKED):
            for said in (text, f"hey, {text.lower()}", text.upper()):
                with edited.recording() as log:
                    changed = logits(base, said)
                fired = log.of_row(0)
                assert fired is not None
                assert fired.edit_id == f"e{i}"
                assert fired.match is not None
            assert not torch.equal(logits(base, text), before[text])
            assert changed.isfinite().all()
        for text in OTHER:
            with edited.recording() as log:
                assert torch.equal(logits(base, text), before[text])
            assert log.of_row(0) is None
        with edited.disabled():
            assert all(torch.equal(logits(base, text), before[text]) for text in before)
    assert all(torch.equal(logits(base, text), before[text]) for text in before)
    assert weights_hash(base.model) == hashed
    assert "generate" not in vars(base.model)


@pytest.mark.parametrize("span", [1, 3])
def test_with_and_without_cache_alone_and_in_a_batch_it_answers_the_same(
    base: Any, span: int
) -> None:
    book = semantic_book(base, ASKED, spans=[span] * 3)
    with edited_by_meaning(base, book) as edited:
        alone = [generate_answers(edited, [text], max_new_tokens=8)[0] for text in ASKED + OTHER]
        together = generate_answers(edited, ASKED + OTHER, max_new_tokens=8)
        assert [a.text for a in alone] == [a.text for a in together]
        assert [bool(a.fired) for a in together] == [True] * 3 + [False] * 2
        for text, answer in zip(ASKED + OTHER, alone, strict=True):
            ids = torch.tensor([prompt_ids(base, text)])
            whole = base.model.generate(
                ids, max_new_tokens=8, do_sample=False, use_cache=False, pad_token_id=0
            )
            said = base.tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)
            assert said.strip() == answer.text


def test_beams_and_streams_fire(base: Any) -> None:
    from transformers import TextIteratorStreamer

    ids = torch.tensor([prompt_ids(base, ASKED[0])])
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    with edited_by_meaning(base, semantic_book(base, ASKED)) as edited:
        with edited.recording() as log:
            base.model.generate(ids, num_beams=3, **options)
        assert log.rows()
        plain = base.model.generate(ids, **options)[0, ids.shape[1] :]
        streamer = TextIteratorStreamer(base.tokenizer, skip_prompt=True, timeout=60)
        thread = Thread(
            target=base.model.generate, args=(ids,), kwargs={**options, "streamer": streamer}
        )
        thread.start()
        assert "".join(streamer) == base.tokenizer.decode(plain)
        thread.join()


def test_a_turn_answered_before_is_read_as_it_was(tiny_bases: Any) -> None:
    base = tiny_bases["llama-chat"]
    turns = [
        {"role": "user", "content": ASKED[0]},
        {"role": "assistant", "content": "Oslo"},
        {"role": "user", "content": OTHER[0]},
        {"role": "assistant", "content": "Lima"},
        {"role": "user", "content": "Thanks!"},
    ]
    with edited_by_meaning(base, semantic_book(base, ASKED)) as edited:
        answer = generate_answers(edited, [turns], max_new_tokens=4)[0]
        assert answer.fired is None  # what is asked now is not what was edited
        with edited.recording() as log:
            logits(base, turns)
        assert log.rows() == {0}  # but the earlier turn is
        again = [*turns, {"role": "assistant", "content": "Rome"}, turns[0]]
        fired = generate_answers(edited, [again], max_new_tokens=4)[0].fired
        assert fired is not None
        assert fired.edit_id == "e0"


def test_a_kept_prompt_stays_with_the_base_model(base: Any) -> None:
    kept = "Who wrote the book of songs?"
    with edited_by_meaning(base, semantic_book(base, ASKED, threshold=0.5)) as edited:
        assert generate_answers(edited, [kept], max_new_tokens=2)[0].fired is not None
    book = semantic_book(
        base, [*ASKED, kept], spans=[1, 1, 1, 0], threshold=0.5, edit_ids=["a", "b", "c", "a"]
    )
    with edited_by_meaning(base, book) as edited:
        assert generate_answers(edited, [kept], max_new_tokens=2)[0].fired is None
        fired = generate_answers(edited, ASKED[:1], max_new_tokens=2)[0].fired
        assert fired is not None
        assert fired.edit_id == "a"
    assert len(book.without_edits(frozenset({"a"}))) == 2


def test_union_is_free_of_order_and_undone_by_leaving_edits_out(tiny_bases: Any) -> None:
    base = tiny_bases["llama-chat"]
    books = [
        semantic_book(base, ASKED[:2], seed=1, edit_ids=["a", "b"]),
        semantic_book(base, ASKED[1:], seed=2, spans=[2, 3], edit_ids=["c", "d"]),
        semantic_book(base, OTHER, seed=3, layer=2, edit_ids=["e", "f"]),
    ]
    digests = set()
    for order in itertools.permutations(books):
        united = order[0].union(*order[1:])
        digests.add(patch_digest(united))
        assert united == order[0].union(order[1].union(order[2]))
        assert united.union(books[1]) == united
        assert united.without_edits(frozenset("ef")) == books[0].union(books[1])
        composed = compose([Part(f"{i:064x}", book) for i, book in enumerate(order)]).patches
        assert composed == (united,)
    assert len(digests) == 1
    for i in range(len(books[1])):
        place = united.entry_digests.index(books[1].entry_digests[i])
        assert torch.equal(united.values_of(place), books[1].values_of(i))


def test_of_entries_that_ask_the_same_the_better_match_answers(tiny_bases: Any) -> None:
    base = tiny_bases["llama-chat"]
    book = semantic_book(base, ["Who won in 2018?", "Who won in 2022?"], threshold=0.3)
    scope = book.scope(WordEncoder())
    for text, year in (("so who won in 2018?", "2018"), ("who won, in 2022?", "2022")):
        found = scope.decide([Query(text)])[0]
        assert found.in_scope
        assert year in book.prompts[found.entry]
    assert not scope.decide([Query("What is for dinner?")])[0].in_scope


def test_decisions_are_kept_and_do_not_depend_on_what_was_asked_before(tiny_bases: Any) -> None:
    base = tiny_bases["llama-chat"]
    book, encoder = semantic_book(base, ASKED), WordEncoder()
    scope = book.scope(encoder)
    queries = [Query(text) for text in (*ASKED, *OTHER, "Who wrote it?")]
    first = scope.decide(queries)
    asked = encoder.asked
    assert scope.decide(list(reversed(queries))) == list(reversed(first))
    assert book.scope(encoder).decide(queries) == first  # the same scope: nothing is asked again
    assert encoder.asked == asked
    alone = [EncoderScope(book, WordEncoder()).decide([query])[0] for query in queries]
    assert [(d.entry, d.in_scope) for d in alone] == [(d.entry, d.in_scope) for d in first]
    assert [d.distance for d in alone] == pytest.approx([d.distance for d in first])


def test_a_text_answers_its_own_words_only(tiny_bases: Any) -> None:
    base = tiny_bases["llama-chat"]
    with edited_by_meaning(base, semantic_book(base, ASKED, radius=0.0)) as edited:
        said = [ASKED[0], ASKED[0].upper() + "  ", f"hey, {ASKED[0]}"]
        fired = [bool(a.fired) for a in generate_answers(edited, said, max_new_tokens=2)]
    assert fired == [True, True, False]


def test_an_empty_codebook_does_nothing(base: Any) -> None:
    before = logits(base, ASKED[0])
    with edited_by_meaning(
        base, semantic_book(base, ASKED).without_edits(frozenset({"e0", "e1", "e2"}))
    ):
        assert torch.equal(logits(base, ASKED[0]), before)


def test_patches_come_back_as_they_were_and_no_bit_may_change(tiny_bases: Any) -> None:
    book = semantic_book(tiny_bases["llama-chat"], ASKED, spans=[1, 0, 3])
    data = write_patch(book)
    read = read_patch(data, digest=patch_digest(book))
    assert read == book
    assert isinstance(read, EncoderCodebook)
    assert torch.equal(read.values, book.values)
    generator = torch.Generator().manual_seed(0)
    for place in torch.randint(0, len(data), (400,), generator=generator).tolist():
        damaged = bytearray(data)
        damaged[place] ^= 1 << (place % 8)
        with pytest.raises(MlflowEditError):
            read_patch(bytes(damaged), digest=patch_digest(book))


@pytest.mark.parametrize(
    "changed",
    [
        {"keys": torch.full((3, 64), torch.nan)},
        {"thresholds": torch.tensor([0.5, 1.5, 0.5])},
        {"thresholds": torch.tensor([0.5, 0.5])},
        {"radii": torch.tensor([-1.0, 1, 1])},
        {"spans": torch.tensor([1, 1, 9])},
        {"spans": torch.tensor([1, 1, -1])},
        {"values": torch.zeros(3, 64)},
        {"labels": ("x", "y", "z")},
        {"encoder": "none"},
        {"layers": ("", "", "")},
    ],
)
def test_parts_that_cannot_be_are_refused(tiny_bases: Any, changed: dict[str, Any]) -> None:
    book = semantic_book(tiny_bases["llama-chat"], ASKED)
    with pytest.raises(CorruptPatch):
        replace(book, **changed, entry_digests=())


def test_other_encoders_and_widths_do_not_unite(tiny_bases: Any) -> None:
    book = semantic_book(tiny_bases["llama-chat"], ASKED)
    other = replace(book, encoder="e" * 64, entry_digests=())
    with pytest.raises(ShapeMismatch):
        book.union(other)
    assert len(compose([Part("0" * 64, book), Part("1" * 64, other)]).patches) == 2


def test_a_missing_encoder_is_said(tiny_bases: Any) -> None:
    from mlflow_edit.models.edited_model import EditedModel

    def nowhere(digest: str) -> Any:
        raise DigestMismatch("no such encoder")

    base = tiny_bases["llama-chat"]
    with pytest.raises(DigestMismatch):
        EditedModel(base, compose([Part("0" * 64, semantic_book(base, ASKED))]), encoders=nowhere)
    assert not any(module._forward_hooks for module in base.model.modules())


def test_an_entry_of_radius_0_answers_its_own_words_only(tiny_bases: Any) -> None:
    base = tiny_bases["llama-chat"]
    book = semantic_book(base, ASKED)
    book = replace(book, radii=torch.zeros(len(book)), entry_digests=())
    scope = book.scope(WordEncoder())
    own, longer = scope.decide([Query(ASKED[0]), Query(f"Thanks. {ASKED[0]}")])
    assert own.in_scope
    assert not longer.in_scope


def test_keys_have_unit_length(tiny_bases: Any) -> None:
    book = semantic_book(tiny_bases["llama-chat"], ASKED)
    with pytest.raises(CorruptPatch, match="unit length"):
        replace(book, keys=3 * book.keys, entry_digests=())
