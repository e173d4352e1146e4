"""Measure a version: what its edits did, and what they did to everything else."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlflow_edit.core.answers import is_unchanged
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.results import ProbeResult
from mlflow_edit.core.scorecard import Scorecard, mean, share
from mlflow_edit.evaluation.generation import Advance, Answer, generate_answers
from mlflow_edit.evaluation.probes import (
    ANSWER_TOKENS,
    MAX_PROBES,
    Probe,
    collect_probes,
    is_right,
)
from mlflow_edit.evaluation.suite import Suite
from mlflow_edit.evaluation.teacher_forcing import (
    next_token_divergence,
    perplexities,
    target_accuracy,
)
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.models.prompts import is_chat

__all__ = ["Evaluation", "Probe", "collect_probes", "evaluate"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A scorecard and the rows behind it."""

    scorecard: Scorecard
    results: tuple[ProbeResult, ...]


def evaluate(
    edited: EditedModel,
    edits: Sequence[Edit],
    *,
    new: frozenset[str],
    suite: Suite,
    probes: Sequence[Probe] | None = None,
    advance: Advance = lambda n: None,
) -> Evaluation:
    """Measure a version by free greedy generation.

    The edited model answers every probe. Where no edit fires in prompt or answer, its computation
    is the base model's, bit for bit, so the base answers again only where one did; or everywhere,
    where deltas of weights are in force.

    Args:
        edited: the version's model.
        edits: all edits of the version.
        new: digests of the newest batch's edits; where none, reliability is over all edits.
        suite: questions and texts that no edit is about.
        probes: what `collect_probes` gave, if it was called before.
        advance: is told of every so many probes answered.
    """
    if probes is None:
        probes = collect_probes(edited, edits, new, suite)
    results = _measure(edited, probes, advance)
    texts = perplexities(edited, suite.texts)
    return Evaluation(_scorecard(edited, results, texts, suite), tuple(results))


def _measure(edited: EditedModel, probes: Sequence[Probe], advance: Advance) -> list[ProbeResult]:
    after = _answers(edited, probes, base_only=False, advance=advance)
    fired = [i for i, answer in enumerate(after) if answer.fired or edited.reweighted]
    again = _answers(edited, [probes[i] for i in fired], base_only=True, advance=lambda n: None)
    before = [answer.text for answer in after]
    for i, answer in zip(fired, again, strict=True):
        before[i] = answer.text
    scored = [
        i for i, probe in enumerate(probes) if probe.metric not in ("locality", "test_retention")
    ]
    pairs = [(probes[i].prompt, probes[i].expected[0]) for i in scored]
    forced = dict(zip(scored, target_accuracy(edited, pairs), strict=True))
    return [
        _result(edited, probe, before[i], after[i], forced.get(i)) for i, probe in enumerate(probes)
    ]


def _answers(
    edited: EditedModel, probes: Sequence[Probe], *, base_only: bool, advance: Advance
) -> list[Answer]:
    answers: dict[int, Answer] = {}
    for length in sorted({probe.max_new_tokens for probe in probes}):
        some = [i for i, probe in enumerate(probes) if probe.max_new_tokens == length]
        generated = generate_answers(
            edited,
            [probes[i].prompt for i in some],
            max_new_tokens=length,
            base_only=base_only,
            advance=advance,
        )
        answers.update(zip(some, generated, strict=True))
    return [answers[i] for i in range(len(probes))]


def _result(
    edited: EditedModel, probe: Probe, before: str, after: Answer, forced: float | None
) -> ProbeResult:
    local = probe.metric == "locality"
    divergence = None
    if local:
        may_differ = after.fired or edited.reweighted
        divergence = next_token_divergence(edited, probe.prompt) if may_differ else 0.0
    return ProbeResult(
        metric=probe.metric,
        edit_id=probe.edit_id,
        prompt=probe.prompt,
        expected=probe.expected,
        before=before,
        after=after.text,
        ok=is_unchanged(after.text, before)
        if local
        else is_right(edited, after.text, probe.expected),
        fired=after.fired,
        teacher_forced=forced,
        kl=divergence,
    )


def _scorecard(
    edited: EditedModel,
    results: Sequence[ProbeResult],
    texts: tuple[float, float] | None,
    suite: Suite,
) -> Scorecard:
    by: dict[str, list[ProbeResult]] = {}
    for result in results:
        by.setdefault(result.metric, []).append(result)
    reliability = by.get("reliability") or by.get("retention", [])
    retention = [*by.get("reliability", []), *by.get("retention", [])]
    questions = by.get("test_retention", [])
    known = [r for r in questions if is_right(edited, r.before, r.expected)]
    groups = {**by, "reliability": reliability, "retention": retention, "test_retention": known}

    def hits(metric: str) -> float | None:
        return share([result.ok for result in groups.get(metric, [])])

    def forced(metric: str) -> float | None:
        scores = [r.teacher_forced for r in groups.get(metric, []) if r.teacher_forced is not None]
        return mean(scores)

    return Scorecard(
        reliability=hits("reliability"),
        generality=hits("generality"),
        locality=hits("locality"),
        portability=hits("portability"),
        retention=hits("retention"),
        test_retention=hits("test_retention"),
        test_accuracy=share([r.ok for r in questions]),
        test_accuracy_base=share([is_right(edited, r.before, r.expected) for r in questions]),
        perplexity=texts[0] if texts else None,
        perplexity_ratio=texts[0] / texts[1] if texts else None,
        locality_kl=mean([r.kl for r in groups.get("locality", []) if r.kl is not None]),
        reliability_teacher_forced=forced("reliability"),
        generality_teacher_forced=forced("generality"),
        portability_teacher_forced=forced("portability"),
        n_probes={metric: len(rows) for metric, rows in sorted(groups.items()) if rows},
        protocol=_protocol(edited, suite),
    )


def _protocol(edited: EditedModel, suite: Suite) -> dict[str, str | int | float | bool]:
    return {
        "decided_by": "free greedy generation",
        "hit": "the normalised answer begins with the whole words of the target",
        "unchanged": "the same answer as the base model",
        "answer_tokens": ANSWER_TOKENS,
        "max_probes_per_metric": MAX_PROBES,
        "retention": "all edits of the version, measured after the last",
        "chat_template": is_chat(edited.base),
        "dtype": str(edited.model.dtype).removeprefix("torch."),
        "device": edited.base.device.type,
        "suite": suite.name,
        "suite_digest": suite.digest,
    }
