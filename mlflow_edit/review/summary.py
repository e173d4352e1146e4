"""The version in one sentence, held against a gate, and its scorecard beside others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mlflow_edit.core.gate import LOWER_IS_BETTER, Check, other_protocol
from mlflow_edit.core.results import ProbeResult
from mlflow_edit.core.review import GateVerdict, Review
from mlflow_edit.core.scorecard import HEADLINE
from mlflow_edit.core.text import counted
from mlflow_edit.review.charts import Bar, bar
from mlflow_edit.review.words import clip

MEANINGS = {
    "reliability": "the edits' own prompts that are answered with the target",
    "generality": "their rephrases that are answered with the target",
    "locality": "unrelated inputs that are answered just as the base model answers them",
    "portability": "downstream consequences of the edits that are answered right",
    "retention": "reliability over all edits of this version, measured after the last",
    "test_retention": "accuracy kept on the base model's own test data",
    "perplexity_ratio": "perplexity against the base model's; 1 is unchanged",
    "test_accuracy": "accuracy on the base model's test data, edited",
    "test_accuracy_base": "accuracy on the same data, base model",
    "perplexity": "perplexity of the edited model",
    "locality_kl": "mean KL divergence from the base model on unrelated inputs, in nats",
    "reliability_teacher_forced": "target tokens that are first choice, given the target so far",
    "generality_teacher_forced": "the same, for rephrases",
    "portability_teacher_forced": "the same, for portability probes",
}
APPROVED = "approved"  # the check that no measurement decides
SETTLED = 0.0005  # smaller changes vanish in three decimals


@dataclass(frozen=True, slots=True)
class ScoreLine:
    """One metric: its value beside its parent's and production's, written out."""

    name: str
    meaning: str
    value: str
    count: str
    parent: "Other"
    production: "Other"
    bar: Bar | None


@dataclass(frozen=True, slots=True)
class Other:
    """A metric of another version, how it changed since, and whether it got better."""

    value: str
    change: str
    verdict: Literal["", "good", "bad"]


def one_sentence(review: Review) -> str:
    """Say what was edited, and what came of it, in one sentence."""
    parts = [*_answered(review.results), *_unrelated(review.results)]
    lost = sum(not row.ok for row in earlier_edits(review))
    if lost:
        parts.append(
            f"{counted(lost, 'earlier edit')} no longer {'holds' if lost == 1 else 'hold'}"
        )
    if review.unsolved:
        parts.append(f"{counted(len(review.unsolved), 'edit')} could not be learned")
    return f"{_subject(review)}: {'; '.join(parts) or 'nothing was measured'}."


def earlier_edits(review: Review) -> list[ProbeResult]:
    """Return the retention results of edits that an earlier version learned."""
    own = {edit.id for edit in review.edits}
    return [row for row in review.results if row.metric == "retention" and row.edit_id not in own]


def score_lines(review: Review, *, headline: bool) -> list[ScoreLine]:
    """Write out the headline metrics, all of them, or the others that were measured."""
    if headline:
        return [_line(name, review) for name in HEADLINE]
    measured = review.scorecard.metrics()
    return [_line(n, review) for n in MEANINGS if n in measured and n not in HEADLINE]


def protocol_changes(review: Review) -> list[tuple[str, list[str]]]:
    """Name the versions compared with that were measured differently, and in what."""
    others = (("parent", review.comparison.parent), ("production", review.comparison.production))
    found = [(what, other_protocol(review.scorecard, one.scorecard)) for what, one in others if one]
    return [(what, names) for what, names in found if names]


@dataclass(frozen=True, slots=True)
class VerdictLine:
    """The verdict in a few words, and the checks behind it: those that were not met first."""

    said: str
    passed: bool
    checks: list[Check]


def verdict_line(verdict: GateVerdict | None) -> VerdictLine | None:
    """Say whether a version meets the gate; who approves it decides after this page is written."""
    if verdict is None:
        return None
    gate = f"the gate of {clip(verdict.alias, 60)}" if verdict.alias else "the default gate"
    measured = [check for check in verdict.gate.checks if check.name != APPROVED]
    failed = [check for check in measured if not check.passed]
    said = f"Meets {gate}"
    if failed:
        n_failed = f"{len(failed)} of {counted(len(measured), 'check')}"
        said = f"Does not meet {gate}: {n_failed} {'fails' if len(failed) == 1 else 'fail'}"
    elif len(measured) < len(verdict.gate.checks):
        said += ", but waits for a reviewer's approval"
    ordered = sorted(verdict.gate.checks, key=lambda check: (check.passed, check.name == APPROVED))
    return VerdictLine(said, not failed, ordered)


def _subject(review: Review) -> str:
    base = review.manifest.base.digest[:6]
    learned = {edit.id for edit in review.edits} - {item.edit_id for item in review.unsolved}
    if review.edits or review.unsolved:
        by = f" by {clip(review.editor, 60)}" if review.editor else ""
        return f"{counted(len(learned), 'edit')}{by} on base {base}"
    batches, n_edits = review.manifest.batches, review.manifest.n_edits
    held = f"{counted(len(batches), 'batch', 'batches')} with {counted(n_edits, 'edit')}"
    done = [
        f"{counted(len(edits), 'edit')} {what}"
        for edits, what in ((review.taken, "taken out"), (review.returned, "in force again"))
        if edits
    ]
    return f"{review.verb}: {', '.join(done) or 'no new edits'}; {held} on base {base}"


def _answered(results: Sequence[ProbeResult]) -> list[str]:
    rows = [row for row in results if row.metric == "reliability"]
    return [f"{sum(row.ok for row in rows)} of {len(rows)} answered as asked"] if rows else []


def _unrelated(results: Sequence[ProbeResult]) -> list[str]:
    rows = [row for row in results if row.metric == "locality"]
    if not rows:
        return ["no unrelated questions were asked"] if results else []
    moved = sum(not row.ok for row in rows)
    return [f"{moved or 'none'} of {len(rows)} unrelated answers changed"]


def _line(name: str, review: Review) -> ScoreLine:
    value = getattr(review.scorecard, name)
    others = (review.comparison.parent, review.comparison.production)
    parent, production = (getattr(one.scorecard, name) if one else None for one in others)
    return ScoreLine(
        name=name.replace("_", " "),
        meaning=MEANINGS[name],
        value=_number(value),
        count=_hits(value, review.scorecard.n_probes.get(name), name),
        parent=_other(name, value, parent, there=others[0] is not None),
        production=_other(name, value, production, there=others[1] is not None),
        bar=None if name in LOWER_IS_BETTER else bar(value, parent, production),
    )


def _other(name: str, value: float | None, old: float | None, *, there: bool) -> Other:
    change, verdict = _change(name, value, old)
    return Other(_number(old) if there else "–", change, verdict)


def _number(value: float | None) -> str:
    return "no probes" if value is None else f"{value:.3f}"


def _hits(value: float | None, n_probes: int | None, name: str) -> str:
    if value is None or not n_probes:
        return ""
    hits = round(value * n_probes)
    if name in LOWER_IS_BETTER or abs(hits - value * n_probes) > 0.01:
        return f"{n_probes:,}"
    return f"{hits:,} of {n_probes:,}"


def _change(
    name: str, value: float | None, old: float | None
) -> tuple[str, Literal["", "good", "bad"]]:
    if value is None or old is None:
        return "–", ""
    change = value - old
    if abs(change) < SETTLED:
        return "same", ""
    better = (change < 0) == (name in LOWER_IS_BETTER)
    return f"{change:+.3f}".replace("-", "−"), "good" if better else "bad"
