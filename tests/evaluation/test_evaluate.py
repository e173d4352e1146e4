"""Every metric against values computed by hand, on bases with codebooks made by hand."""

import math
from typing import Any

import pytest
import torch
from tiny_edits import BATCH_DIGEST, QUESTIONS, batch_for, codebook_at, edited_with, silent
from tiny_models import CLASSIFIERS, FAMILIES

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.edit import Probe as EditProbe
from mlflow_edit.editors.catalog import find_editor
from mlflow_edit.evaluation import evaluate as module
from mlflow_edit.evaluation.evaluate import MAX_PROBES, collect_probes, evaluate
from mlflow_edit.evaluation.generation import by_length, generate_answers
from mlflow_edit.evaluation.suite import Suite
from mlflow_edit.evaluation.teacher_forcing import (
    next_token_divergence,
    perplexities,
    target_accuracy,
)
from mlflow_edit.models.prompts import answer_ids, prompt_ids

TEXTS = ("The capital of France is Paris .", "Ada wrote a program , and Vijay Anand a film .")
SUITE = Suite(
    "tiny",
    (
        EditProbe(prompt="Where is the book?", answers=("Paris",)),
        EditProbe(prompt="Where is the film?", answers=("Nowhere",)),
        EditProbe(prompt="Where is the river?", answers=("x", "Rome")),
    ),
    TEXTS,
)
NOTHING = Suite("nothing", (), ())


def edit_on(base: Any, **fields: Any) -> Edit:
    target = "sports" if base.task == "classifier" else "Oslo"
    return Edit(**{"id": "e0", "prompt": "Who wrote the book?", "target": target, **fields})


@pytest.mark.parametrize("name", FAMILIES)
def test_where_nothing_fires_nothing_is_lost(tiny_bases: Any, name: str) -> None:
    base = tiny_bases[name]
    edit = edit_on(base, locality=["How do plants turn?", {"prompt": "food: what", "answers": []}])
    with edited_with(base) as edited:
        card = evaluate(edited, [edit], new=frozenset({edit.digest}), suite=SUITE).scorecard
    assert card.locality == 1
    assert card.locality_kl == 0
    assert card.perplexity_ratio == (1 if base.task == "causal" else None)
    assert card.test_accuracy == card.test_accuracy_base
    assert card.test_retention in (1, None)
    assert card.generality is None
    assert card.portability is None


def test_each_metric_is_the_share_of_its_probes(taught_bases: Any) -> None:
    base = taught_bases["llama"]
    edit = Edit(
        id="e0",
        prompt="Where is the book?",
        target="Paris",
        rephrases=("Where is the film?", "Where is the river?"),
        locality=(EditProbe(prompt="Where is the plant?"), EditProbe(prompt="Where is the food?")),
        portability=(
            EditProbe(prompt="Where is the north?", answers=("Lima", "Oslo")),
            EditProbe(prompt="Where is the food?", answers=()),
        ),
    )
    old = Edit(id="old", prompt="Where is the program?", target="never that")
    prompts = [f"Where is the {subject}?" for subject in ("book", "film", "river", "north")]
    with edited_with(base) as plain:
        said = generate_answers(plain, prompts, max_new_tokens=20)
    assert [answer.text for answer in said] == ["Paris", "Berlin", "Rome", "Lima"]

    fired = codebook_at(base, ["Where is the plant?"], radius=0.1)
    with edited_with(base, fired) as edited:
        done = evaluate(edited, [edit, old], new=frozenset({edit.digest}), suite=SUITE)
    card = done.scorecard
    assert card.reliability == 1
    assert card.generality == 0
    assert card.locality == 0.5
    assert card.portability == 1
    assert card.retention == 0.5
    assert card.test_accuracy == card.test_accuracy_base == pytest.approx(2 / 3)
    assert card.test_retention == 1
    assert card.n_probes == {
        "generality": 2,
        "locality": 2,
        "portability": 1,
        "reliability": 1,
        "retention": 2,
        "test_retention": 2,
    }
    rows = {(r.metric, r.prompt): r for r in done.results}
    local = rows["locality", "Where is the plant?"]
    assert local.fired is not None
    assert local.fired.batch == BATCH_DIGEST
    assert local.kl is not None
    assert local.kl > 0
    assert local.before != local.after
    other = rows["locality", "Where is the food?"]
    assert (other.fired, other.kl, other.ok) == (None, 0.0, True)
    assert card.locality_kl == pytest.approx(local.kl / 2)
    assert card.protocol["suite_digest"] == SUITE.digest
    assert card.reliability_teacher_forced == 1
    assert len(done.results) == 2 + 2 + 2 + 1 + 3


def test_test_retention_is_of_what_the_base_knew(taught_bases: Any) -> None:
    base = taught_bases["llama"]
    spoiled = codebook_at(base, ["Where is the book?"], radius=0.1)
    with edited_with(base, spoiled) as edited:
        card = evaluate(edited, [edit_on(base)], new=frozenset(), suite=SUITE).scorecard
    assert card.test_accuracy_base == pytest.approx(2 / 3)
    assert card.test_accuracy == pytest.approx(1 / 3)
    assert card.test_retention == 0.5


@pytest.mark.parametrize("name", FAMILIES)
def test_learned_edits_are_reliable(taught_bases: Any, tiny_bases: Any, name: str) -> None:
    base = tiny_bases[name] if name in CLASSIFIERS else taught_bases[name]
    batch = batch_for(base)
    learning = find_editor("grace", {}).learn(base, batch, silent)
    solved = sum(outcome.solved for outcome in learning.outcomes)
    with edited_with(base, learning.patch) as edited:  # type: ignore[arg-type]
        new = frozenset(edit.digest for edit in batch)
        card = evaluate(edited, list(batch), new=new, suite=NOTHING).scorecard
    if name not in CLASSIFIERS:
        assert card.reliability == card.retention == solved / len(batch)
        assert card.reliability_teacher_forced is not None
        assert card.reliability_teacher_forced >= solved / len(batch)
    else:  # one target is given by number
        assert card.reliability_teacher_forced is None
        assert card.reliability == 1


def test_reliability_is_over_all_edits_where_none_is_new(taught_bases: Any) -> None:
    base = taught_bases["llama"]
    edits = [
        Edit(id="a", prompt="Where is the book?", target="Paris"),
        Edit(id="b", prompt="Where is the film?", target="Paris"),
    ]
    with edited_with(base) as edited:
        card = evaluate(edited, edits, new=frozenset(), suite=NOTHING).scorecard
    assert card.reliability == card.retention == 0.5
    assert card.perplexity is None
    assert card.test_retention is None


def test_perplexity_is_that_of_the_whole_model(taught_bases: Any) -> None:
    base = taught_bases["llama"]
    total = n_tokens = 0.0
    for text in TEXTS:
        ids = torch.tensor([base.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            loss = base.model(input_ids=ids, labels=ids).loss
        total += float(loss) * (ids.shape[1] - 1)
        n_tokens += ids.shape[1] - 1
    with edited_with(base) as edited:
        assert perplexities(edited, TEXTS) == pytest.approx([math.exp(total / n_tokens)] * 2)
        assert perplexities(edited, []) is None
        assert perplexities(edited, ["x"]) is None
    with edited_with(base, codebook_at(base, [TEXTS[0]], radius=0.1)) as edited:
        after, before = perplexities(edited, TEXTS) or (0.0, 0.0)
        assert after == before == pytest.approx(math.exp(total / n_tokens))
    with edited_with(base, codebook_at(base, ["The capital"], radius=0.1)) as edited:
        after, before = perplexities(edited, TEXTS) or (0.0, 0.0)
        assert after != before
        assert before == pytest.approx(math.exp(total / n_tokens))


@pytest.mark.parametrize("name", FAMILIES)
def test_divergence_is_of_the_next_token(tiny_bases: Any, name: str) -> None:
    base = tiny_bases[name]
    prompt = "Who wrote the book?"
    inputs = {"input_ids": torch.tensor([prompt_ids(base, prompt)])}
    if base.task == "seq2seq":
        inputs["decoder_input_ids"] = torch.zeros((1, 1), dtype=torch.long)

    def chances() -> Any:
        with torch.no_grad():
            logits = base.model(**inputs).logits
        return logits.reshape(-1, logits.shape[-1])[-1].double().softmax(-1)

    before = chances()
    with edited_with(base, codebook_at(base, [prompt])) as edited:
        after = chances()
        expected = float((before * (before / after).log()).sum())
        assert expected > 1e-3
        assert next_token_divergence(edited, prompt) == pytest.approx(expected, rel=1e-3)
        assert next_token_divergence(edited, "food: what") == 0


@pytest.mark.parametrize("name", [*(name for name in FAMILIES if name != "bert"), "llama-chat"])
def test_target_accuracy_is_the_share_of_tokens(taught_bases: Any, name: str) -> None:
    base = taught_bases[name]
    pairs = [
        ("Where is the book?", "Paris"),
        ("Where is the film?", "Berlin and Rome"),
        ("The capital of the north is", "Ada wrote"),
        ("Paris " * 200, "too long"),
    ]
    with edited_with(base) as edited, torch.no_grad():
        found = target_accuracy(edited, pairs)
        for (prompt, target), share in zip(pairs[:3], found, strict=False):
            ids = prompt_ids(base, prompt)
            answer = answer_ids(base, target, prompt=prompt)
            if base.task == "seq2seq":
                decoder = torch.tensor([[0, *answer[:-1]]])
                logits = base.model(
                    input_ids=torch.tensor([ids]), decoder_input_ids=decoder
                ).logits[0]
            else:
                whole = torch.tensor([[*ids, *answer[:-1]]])
                logits = base.model(input_ids=whole).logits[0, len(ids) - 1 :]
            right = logits.argmax(-1) == torch.tensor(answer)
            assert share == pytest.approx(float(right.float().mean()))
    assert found[3] is None


def test_probes_are_sampled_by_digest_not_by_order(tiny_bases: Any) -> None:
    base = tiny_bases["llama"]
    edits = [
        Edit(
            id=f"e{i}",
            prompt=f"Question {i}?",
            target="Oslo",
            rephrases=tuple(f"Asked {i} {j}?" for j in range(5)),
            locality=tuple({"prompt": f"Else {i} {j}?"} for j in range(5)),
        )
        for i in range(100)
    ]
    with edited_with(base) as edited:
        probes = collect_probes(edited, edits, frozenset(), NOTHING)
        turned = collect_probes(edited, edits[::-1], frozenset(), NOTHING)
    for metric, n in {"generality": MAX_PROBES, "locality": MAX_PROBES, "retention": 100}.items():
        some = [p for p in probes if p.metric == metric]
        assert len(some) == n
        assert set(some) == {p for p in turned if p.metric == metric}
    assert len({p.edit_id for p in probes if p.metric == "locality"}) > 90


def test_classes_are_compared_whole_and_by_name() -> None:
    from tiny_models import tiny_base

    base = tiny_base("bert")
    base.model.config.id2label = {0: "world", 1: "world news", 2: "2nd", 3: "0"}  # type: ignore[union-attr]
    with edited_with(base) as edited:
        said = generate_answers(edited, ["Who?"], max_new_tokens=1)[0].text
        index = {name: i for i, name in base.model.config.id2label.items()}[said]  # type: ignore[union-attr]
        base.model.config.id2label = {i: f"class {i}" for i in range(4)}  # type: ignore[union-attr]
        base.model.config.id2label[index] = "world news"  # type: ignore[union-attr]
        base.model.config.id2label[(index + 1) % 4] = "world"  # type: ignore[union-attr]
        for target, right in (("world", 0), ("World News", 1), (str(index), 1)):
            edit = Edit(id="e", kind="label", prompt="Who?", target=target)
            card = evaluate(edited, [edit], new=frozenset(), suite=NOTHING).scorecard
            assert card.reliability == right


def test_progress_counts_every_probe(tiny_bases: Any) -> None:
    base = tiny_bases["bert"]
    told: list[int] = []
    with edited_with(base) as edited:
        edit = edit_on(base, rephrases=["Who?", "Where?"])
        done = evaluate(edited, [edit], new=frozenset(), suite=SUITE, advance=told.append)
    assert sum(told) == len(done.results) == 6


@pytest.mark.parametrize("extra", [0, 20])
def test_groups_hold_every_index_once_within_limits(extra: int) -> None:
    lengths = [3, 900, 5, 5, 8000, 20_000, 1] * 20
    groups = list(by_length(lengths, extra=extra))
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) <= 32
        longest = max(lengths[i] for i in group) + extra
        assert len(group) == 1 or longest * len(group) <= 8192


def test_answers_do_not_depend_on_the_batch(
    tiny_bases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_bases["opt"]
    prompts = [*(prompt for prompt, _ in QUESTIONS), "x", "food: what is it?"]
    with edited_with(base, codebook_at(base, prompts[:2], layer=1)) as edited:
        together = generate_answers(edited, prompts, max_new_tokens=6)
        for prompt, answer in zip(prompts, together, strict=True):
            alone = generate_answers(edited, [prompt], max_new_tokens=6)[0]
            assert alone.text == answer.text
            assert (alone.fired is None) == (answer.fired is None)
        assert [bool(a.fired) for a in together] == [True, True, False, False, False, False]
        plain = generate_answers(edited, prompts, max_new_tokens=6, base_only=True)
    assert not any(answer.fired for answer in plain)
    with edited_with(base) as bare:
        assert [a.text for a in plain] == [
            a.text for a in generate_answers(bare, prompts, max_new_tokens=6)
        ]


def test_sampling_is_a_function_of_the_seed(tiny_bases: Any) -> None:
    base = tiny_bases["llama"]
    with edited_with(base) as edited:
        said = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            said.append(generate_answers(edited, ["Who?"], max_new_tokens=8, temperature=1.0))
    assert said[0] == said[1]
    assert said[0] != said[2]


def test_settings_of_the_model_do_not_change_greedy_answers(taught_bases: Any) -> None:
    from tiny_models import taught_base
    from transformers import GenerationConfig

    base = taught_base("llama")
    with edited_with(base) as edited:
        before = generate_answers(edited, ["Where is the book?"], max_new_tokens=6)
        edited.model.generation_config = GenerationConfig(
            do_sample=True, temperature=5.0, repetition_penalty=9.0, num_beams=3, eos_token_id=2,
            no_repeat_ngram_size=1, min_new_tokens=5,
        )  # fmt: skip
        assert generate_answers(edited, ["Where is the book?"], max_new_tokens=6) == before


def test_an_answer_never_leaves_the_context(tiny_bases: Any) -> None:
    base = tiny_bases["gpt2"]
    prompt = base.tokenizer.decode(base.tokenizer("Paris Rome " * 200)["input_ids"][:120])
    with edited_with(base) as edited:
        assert generate_answers(edited, [prompt, "x"], max_new_tokens=50)


def test_the_limits_of_the_protocol_are_told(tiny_bases: Any) -> None:
    base = tiny_bases["llama"]
    with edited_with(base) as edited:
        done = evaluate(edited, [edit_on(base)], new=frozenset(), suite=NOTHING)
    protocol = done.scorecard.protocol
    assert protocol["max_probes_per_metric"] == module.MAX_PROBES
    assert protocol["dtype"] == "float32"
    assert protocol["chat_template"] is False
