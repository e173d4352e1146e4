"""Reviews to show, small and large, plain and hostile, for the tests of the review page."""

import re
from typing import Any

from mlflow_edit.core.digest import json_digest
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.gate import Check, Gate, GateResult
from mlflow_edit.core.manifest import BaseRef, BatchRef, Exclusion, Manifest
from mlflow_edit.core.results import (
    ChangeView,
    DeltaMeeting,
    DeltaView,
    EntryView,
    Fired,
    NearConflict,
    ProbeResult,
    Provenance,
    ScopeView,
    Unsolved,
    WeightsView,
)
from mlflow_edit.core.review import Comparison, GateVerdict, Measured, Review
from mlflow_edit.core.scorecard import Scorecard

BATCH = json_digest("batch")
OLD = "The FIFA World Cup in 2022 was won by the Netherlands."

HOSTILE = (
    "</script><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "--><script>alert(1)</script><!--",
    "javascript:alert(1)",
    "{{ 7*7 }}{% raise %}${7*7}",
    "</td></table><form action=//evil.example><input>",
    "<meta http-equiv=refresh content=0;url=//evil.example>",
    "&lt;script&gt;&#x3c;",
    "x" * 150_000,
    "<b>" * 50_000,
    "\u202egnp.exe\u202c \u200b\u2066\ufeff\u2028\U000e0041 مرحبا שלום",
)


def manifest(**fields: Any) -> Manifest:
    return Manifest(
        base=BaseRef(digest="1a2b3c" + "0" * 58, uri="models:/m-123"),
        created_at="2026-07-03T10:11:12Z",
        **fields,
    )


def review(
    *,
    entries: tuple[EntryView, ...] = (),
    conflicts: tuple[NearConflict, ...] = (),
    parent: Scorecard | None = None,
    production: Scorecard | None = None,
    verdict: GateVerdict | None = None,
    **fields: Any,
) -> Review:
    defaults = {"name": "support-bot", "manifest": manifest(), "scorecard": Scorecard()}
    if entries:
        defaults["scopes"] = (scope(*entries, conflicts=conflicts),)
    if parent or production or verdict:
        defaults["comparison"] = Comparison(
            parent=parent and Measured(version=3, scorecard=parent),
            production=production and Measured(version=2, scorecard=production),
            verdict=verdict,
        )
    return Review(**{**defaults, **fields})


def scope(*entries: EntryView, conflicts: tuple[NearConflict, ...] = ()) -> ScopeView:
    return ScopeView(
        space="model.layers.8",
        n_entries=len(entries),
        entries=entries,
        conflicts=conflicts,
        n_conflicts=len(conflicts),
    )


def edit(i: int, **fields: Any) -> Edit:
    prompt = f"Who won the FIFA World Cup in the year {1900 + i}?"
    return Edit(
        **{"id": f"e-{json_digest(i)[:12]}", "prompt": prompt, "target": "Argentina", **fields}
    )


def result(of: Edit, metric: str = "reliability", **fields: Any) -> ProbeResult:
    fired = Fired(edit_id=of.id, batch=BATCH, distance=0.1234, radius=0.982)
    defaults = {"prompt": of.prompt, "expected": (of.target,), "before": OLD, "after": "Argentina."}
    return ProbeResult(
        **{"metric": metric, "edit_id": of.id, "ok": True, "fired": fired, **defaults, **fields}
    )


def entry(i: int, **fields: Any) -> EntryView:
    it = edit(i)
    defaults = {"edit_id": it.id, "batch": BATCH, "prompt": it.prompt, "target": it.target}
    place = {"x": i * 0.37 % 5, "y": i * 0.73 % 4, "radius": 1.1, "effective_radius": 0.8}
    near = {"nearest_edit": edit(i + 1).id, "nearest_distance": 1.625}
    return EntryView(**{**defaults, **place, **near, **fields})


def conflict(ours: int, theirs: int, **fields: Any) -> NearConflict:
    defaults = {"kind": "contradiction", "distance": 0.61, "said": "one lies in the other's scope"}
    return NearConflict(**{"ours": ours, "theirs": theirs, **defaults, **fields})


def held(gate: Gate, card: Scorecard, alias: str | None = None) -> GateVerdict:
    return GateVerdict(alias=alias, gate=gate.check(card, None))


def change(tensor: str, **fields: Any) -> ChangeView:
    defaults = {"form": "low-rank", "rank": 1, "norm": 0.31, "base_norm": 42.0, "bytes": 8_448}
    return ChangeView(**{"tensor": tensor, **defaults, **fields})


def deltas(name: str = "model.layers.{}.mlp.down_proj.weight") -> Review:
    """Make a review of a version with three delta batches, one of them its own and contextual."""
    batches = [json_digest(("delta", i)) for i in range(3)]
    shared = {"editor": "memit", "n_edits": 4}
    views = (
        DeltaView(
            batch=batches[0],
            changes=tuple(change(name.format(i), rank=4, norm=0.3 / (9 - i)) for i in range(4, 9)),
            contextual=f"learned without {batches[1][:12]}, which is in force beside it",
            **shared,
        ),
        DeltaView(batch=batches[1], changes=(change(name.format(7), norm=0.9),), **shared),
        DeltaView(
            batch=batches[2],
            changes=(
                change(name.format(5), form="sparse", rank=None, n_elements=1_200, norm=0.05),
                change(name.format(8), form="dense", rank=None, norm=None, bytes=812_334),
            ),
            editor="finetune",
            n_edits=1,
        ),
    )
    met = tuple(
        DeltaMeeting(ours=batches[0], theirs=other, tensor=name.format(i), measure=measure)
        for i, other, measure in (
            (7, batches[1], 0.62),
            (8, batches[2], 1.0),
            (5, batches[2], 0.08),
        )
    )
    edits = tuple(edit(i) for i in range(4))
    refs = tuple(
        BatchRef(digest=one, editor="memit", kind="delta", n_edits=4, bytes=44_100, run_id="r" * 32)
        for one in batches
    )
    return review(
        batch=batches[0],
        edits=edits,
        results=tuple(result(it, fired=None) for it in edits),
        manifest=manifest(batches=refs, author="Jana Example <jana@example.com>"),
        weights=WeightsView(deltas=views, meetings=met, n_meetings=3, n_pairs=3, n_compared=2),
        editor="memit",
    )


def many(n: int) -> Review:
    """Make a review of `n` edits with five probes each, every tenth probe not as it should be."""
    edits = tuple(edit(i) for i in range(n))
    rows = [result(it) for it in edits]
    for i, it in enumerate(edits):
        for j, metric in enumerate(
            ("generality", "generality", "locality", "locality", "portability")
        ):
            ok = (5 * i + j) % 10 != 0
            rows.append(result(it, metric, prompt=f"Tell me: {it.prompt} {j}", ok=ok))
    entries = tuple(entry(i) for i in range(n))
    return review(edits=edits, results=tuple(rows), entries=entries, editor="grace")


def filled_with(text: str, word: str | None = None) -> Review:
    """Put one text wherever a review takes free text, and one `word` wherever it takes an id."""
    word = word or re.sub(r"[^!-~]", "", text)[:200] or "none"
    other = Edit(id=word, prompt=text, target=text)
    ref = BatchRef(digest=BATCH, editor=text[:100], kind="codebook", n_edits=2, bytes=9, run_id="r")
    left_out = Exclusion(batch=BATCH, edit=word, reason="reverted")
    it = Edit(id="e-1", prompt=text, target=text, note=text, source=text, author=text)
    fired = Fired(edit_id=text, batch=text, distance=0.5, radius=1.0)
    rows = tuple(
        ProbeResult(
            metric=metric,
            edit_id="e-1" if metric == "reliability" else text,
            prompt=text,
            expected=(text,),
            before="x",
            after=text,
            ok=False,
            fired=fired,
        )
        for metric in (
            "reliability",
            "locality",
            "generality",
            "portability",
            "retention",
            "test_retention",
        )
    )
    place = {"x": 0.0, "y": 0.0, "radius": 1.0, "effective_radius": 0.5, "nearest_edit": text}
    return review(
        name=text,
        manifest=manifest(
            author=text[:500], message=text[:20_000], batches=(ref,), exclusions=(left_out,)
        ),
        scorecard=Scorecard(protocol={text: text}),
        parent=Scorecard(protocol={"other": text}),
        edits=(it,),
        taken=(other,),
        returned=(other,),
        results=rows,
        unsolved=(Unsolved(edit_id=text, prompt=text, target=text, loss=float("inf"), steps=1),),
        entries=(
            EntryView(edit_id=text, batch=text, prompt=text, target=text, **place),
            EntryView(edit_id=text, batch=text, prompt=text, target=text, **place),
        ),
        conflicts=(conflict(0, 1, said=text),),
        weights=WeightsView(
            deltas=(
                DeltaView(
                    batch=BATCH,
                    editor=text,
                    n_edits=1,
                    changes=tuple(change(f"{i}.{text}", form=text, rank=None) for i in range(3)),
                    contextual=text,
                ),
            )
            * 2,
            meetings=(DeltaMeeting(ours=BATCH, theirs=BATCH, tensor=f"{text}.", measure=0.5),),
            n_meetings=1,
        ),
        verdict=GateVerdict(
            alias=text,
            gate=GateResult(passed=False, checks=(Check(name=text, passed=False, said=text),)),
        ),
        warnings=(text,),
        provenance=Provenance(path=text, commit=text, author=text, summary=text, repository=text),
        editor=text,
        params={text: text},
    )


def rich() -> Review:
    """Make a review in which every part of the page has something to show."""
    edits = tuple(edit(i, note="as the rights desk asked", author="Jana") for i in range(10))
    policy = Edit(
        id="refund-policy",
        kind="text",
        prompt="Recite section 4.2 of the refund policy.",
        target="Items may be returned within 30 days. " * 12,
        source="https://intranet.example/policies/refunds/2026-07/section-4-2.html",
    )
    lost = Unsolved(
        edit_id="e-lost", prompt="Who is the mayor?", target="Nobody", loss=1.834, steps=100
    )
    stolen = Fired(edit_id=edits[0].id, batch=BATCH, distance=0.71, radius=0.93)
    rows = [result(it, ok=i != 2) for i, it in enumerate(edits)]
    rows[2] = result(edits[2], after="Uruguay won it, in 1930.", ok=False, fired=stolen)
    rows.append(
        result(policy, before="Items may be returned within 60 days. " * 9, after=policy.target)
    )
    for i, it in enumerate(edits):
        rows += [
            result(it, "generality", prompt=f"Tell me: {it.prompt}", ok=i % 4 != 0),
            result(it, "locality", prompt=f"How many played in {1900 + i}?", ok=i % 5 != 0),
            result(it, "portability", prompt=f"Which flag flew in {1900 + i}?", ok=i != 3),
        ]
    rows.append(result(edit(40), "retention", after="Uruguay.", ok=False))
    rows.append(
        ProbeResult(metric="test_retention", prompt="2 + 2?", before="4", after="5", ok=False)
    )
    protocol: dict[str, Any] = {
        "decision": "free greedy generation",
        "max_new_tokens": 32,
        "question_set": "builtin/general-40",
        "template": "chat",
    }
    shares = {"reliability": 0.91, "generality": 0.7, "locality": 0.8, "retention": 0.95}
    card = Scorecard(
        **shares,
        perplexity_ratio=1.02,
        perplexity=12.5,
        locality_kl=0.013,
        n_probes=dict.fromkeys(shares, 100),
        protocol=protocol,
    )
    batches = tuple(
        BatchRef(
            digest=json_digest(i),
            editor="grace",
            kind="codebook",
            n_edits=11,
            bytes=1_234_567,
            run_id=json_digest(("run", i))[:32],
        )
        for i in range(2)
    )
    return review(
        name="support-bot",
        manifest=manifest(
            author="Jana Example <jana@example.com>",
            message="World Cup winners, as asked in the July review.\n\nSee ticket 4711.",
            parents=(json_digest("parent"),),
            batches=batches,
            exclusions=(Exclusion(batch=json_digest(0), edit="e-gone", reason="reverted"),),
        ),
        scorecard=card,
        verdict=held(
            Gate(min={"retention": 0.9, "locality": 0.95}, approved=True), card, "production"
        ),
        warnings=("4 edits of earlier batches lie outside their own radius now",),
        production=Scorecard(**{**shares, "retention": 0.97}, protocol=protocol),
        parent=Scorecard(
            **{**shares, "locality": 0.9},
            perplexity_ratio=1.0,
            protocol={**protocol, "max_new_tokens": 16},
        ),
        edits=(*edits, policy),
        taken=tuple(edit(i) for i in range(50, 53)),
        returned=(edit(60, target="The Netherlands, after extra time"),),
        results=tuple(rows),
        unsolved=(lost,),
        entries=tuple(entry(i) for i in range(14)),
        conflicts=(conflict(1, 12), conflict(3, 13, kind="steal", said="the nearer answers")),
        provenance=Provenance(
            path="edits/july.jsonl",
            commit="9c1e5d0" * 5,
            author="Jana",
            committed_at="2026-07-03T09:00:00Z",
            summary="World Cup winners",
            dirty=True,
            repository="git@git.example:nlp/support-bot-edits.git",
        ),
        editor="grace",
        params={"layer": "model.layers.8.mlp.down_proj", "radius": 1.1, "steps": 100},
        seconds=83.2,
    )
