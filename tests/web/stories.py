"""Models with a history, made by hand: no model is loaded, nothing is learned."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from registry_fixtures import base_digest_of, draft_of, hand_made_batch

from mlflow_edit.core.edit import Edit
from mlflow_edit.core.gate import Gate
from mlflow_edit.core.manifest import Exclusion, Manifest
from mlflow_edit.core.results import ProbeResult
from mlflow_edit.core.review import Review
from mlflow_edit.core.scorecard import Scorecard
from mlflow_edit.errors import GateError
from mlflow_edit.operations.promote import promote
from mlflow_edit.operations.publication import results_table
from mlflow_edit.operations.verdicts import approve, reject
from mlflow_edit.registry.names import RESULTS, REVIEW
from mlflow_edit.registry.registry import Registry, VersionInfo
from mlflow_edit.review.page import review_page

ADA, BOB = "Ada Example <ada@example.org>", "Bob Example <bob@example.org>"
HOSTILE = (
    "<script>window.pwned=1</script>",
    "</textarea></title><img src=x onerror=window.pwned=1>",
    '" autofocus onfocus="window.pwned=1',
    "' onmouseover='window.pwned=1",
    "{{ 7 * 7 }}",
    "javascript:window.pwned=1",
    "a \u202egnp.exe\u202c",
)
JULY = (
    Edit(id="refund-days", prompt="How many days do I have to return a lamp?",
         target="You have 30 days to return it.", author=ADA, note="Policy of 1 July."),
    Edit(id="hotline", prompt="What is the number of the support hotline?",
         target="It is 0800 555 0199.", author=ADA),
    Edit(id="world-cup-2022", prompt="Who won the FIFA World Cup in 2022?",
         target="Argentina won it.", author=BOB),
)  # fmt: skip
OPENING = (
    Edit(id="opening-hours", prompt="When does the shop in Leeds open on Sundays?",
         target="It opens at 11.", author=BOB),
    Edit(id="parcel-limit", prompt="How heavy may a parcel be?",
         target="It may weigh up to 25 kg.", author=BOB, note="Asked for by logistics."),
)  # fmt: skip
AUGUST = (
    Edit(id="refund-days-august", prompt="How many days do I have to return a lamp?",
         target="You have 60 days to return it.", author=ADA),
)  # fmt: skip
BEFORE = {
    "refund-days": "You have 14 days to return it.",
    "hotline": "I am sorry, I do not know the number of the support hotline.",
    "world-cup-2022": "The Netherlands won it.",
    "opening-hours": "The shop in Leeds is closed on Sundays.",
    "parcel-limit": "It may weigh up to 20 kg.",
    "refund-days-august": "You have 14 days to return it.",
}
PROTOCOL = {"decoding": "greedy", "max_new_tokens": 32, "template": "chat", "suite": "default"}


@dataclass
class Story:
    """Publishes versions of one model, one after another."""

    registry: Registry
    name: str
    folder: Path
    versions: dict[int, tuple[VersionInfo, Manifest]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.base = self.registry.add_base(
            self.folder,
            digest=base_digest_of(self.folder),
            source="HuggingFaceTB/SmolLM2-135M-Instruct",
            advance=lambda text: None,
        )
        self.registry.create_model(self.name)

    def tell(
        self,
        message: str,
        *parents: int,
        edits: Sequence[Edit] = (),
        author: str = ADA,
        failing: Sequence[str] = (),
        measured: bool = True,
        exclusions: Sequence[Exclusion] = (),
    ) -> int:
        """Publish the next version: what its parents hold, with more edits."""
        day = len(self.versions) + 1
        known = [edit for one in parents for edit in self.edits(one)]
        in_force = {e.id: e for e in [*known, *edits] if e.id not in {x.edit for x in exclusions}}
        asked = in_force.values() if measured else ()
        rows = [_asked(edit, edit.id not in failing) for edit in asked]
        card = _scorecard(rows) if measured else Scorecard()
        batch = hand_made_batch(self.base.digest, edits, seed=day) if edits else None
        draft = draft_of(
            self.name,
            self.base,
            parents=[self.versions[one] for one in parents],
            batch=batch,
            exclusions=exclusions,
            scorecard=card,
            message=message,
        )

        def manifest(run_id: str) -> Manifest:
            made = draft.manifest(run_id).model_dump()
            at = f"2026-{7 + day // 28:02}-{1 + day % 28:02}T09:{day % 60:02}:00.000000Z"
            return Manifest.model_validate({**made, "author": author, "created_at": at})

        def documents(manifest: Manifest) -> dict[str, bytes]:
            it = Review(
                name=self.name, manifest=manifest, scorecard=card, edits=tuple(edits),
                results=tuple(rows), editor="grace",
            )  # fmt: skip
            return {RESULTS: results_table(rows), REVIEW: review_page(it).encode()}

        info = self.registry.publish(replace(draft, manifest=manifest, documents=documents))
        self.versions[info.version] = info, self.registry.manifest(info)
        return info.version

    def edits(self, version: int) -> list[Edit]:
        """Return the edits in force in a version."""
        manifest = self.versions[version][1]
        return [
            edit
            for ref in manifest.batches
            for edit in self.registry.edits(ref)
            if edit.id not in manifest.excluded(ref.digest)
        ]


def _asked(edit: Edit, ok: bool) -> ProbeResult:
    before = BEFORE.get(edit.id, "I do not know.")
    return ProbeResult(
        metric="retention",
        edit_id=edit.id,
        prompt=edit.prompt,
        expected=(edit.target,),
        before=before,
        after=edit.target if ok else f"{before} Please ask again.",
        ok=ok,
    )


def _scorecard(rows: Sequence[ProbeResult]) -> Scorecard:
    if not rows:
        return Scorecard(test_retention=1.0, n_probes={"test_retention": 200}, protocol=PROTOCOL)
    n, held = len(rows), sum(row.ok for row in rows)
    return Scorecard(
        reliability=held / n,
        retention=held / n,
        generality=max(0.0, held / n - 0.02 * n),
        locality=1 - 0.004 * n if n < 200 else 0.95,
        test_retention=0.995,
        perplexity_ratio=1 + 0.001 * min(n, 50),
        n_probes={"reliability": n, "retention": n, "generality": 4 * n, "locality": 250},
        protocol=PROTOCOL,
    )


def support_bot(registry: Registry, folder: Path, name: str = "support-bot") -> Story:
    """Tell of corrections, a fork, a merge, a contradiction, verdicts and promotions."""
    story = Story(registry, name, folder)
    story.tell("The assistant as it was delivered")
    wrong = ["world-cup-2022"]
    july = story.tell("Correct what July brought", 1, edits=JULY, failing=wrong)
    hours = story.tell("Opening hours and parcels", 1, edits=OPENING, author=BOB)
    merged = story.tell("Join July and the opening hours", july, hours, failing=wrong)
    first = story.versions[july][1].batches[0].digest
    superseded = Exclusion(batch=first, edit="refund-days", reason="reverted")
    august = story.tell(
        "60 days to return a lamp since August\n\nThe board decided so on 29 July.",
        merged, edits=AUGUST, exclusions=[superseded], failing=wrong,
    )  # fmt: skip
    story.tell("Try it without being measured", july, edits=OPENING[:1], measured=False, author=BOB)
    on = {"registry": registry}
    approve(f"{name}@{july}", note="As agreed with legal.", author=BOB, **on)  # type: ignore[arg-type]
    promote(f"{name}@{july}", to="production", author=ADA, **on)  # type: ignore[arg-type]
    reject(f"{name}@{merged}", note="The World Cup is wrong.", author=ADA, **on)  # type: ignore[arg-type]
    try:
        gate = Gate(min={"locality": 0.999}, approved=True)
        promote(f"{name}@{august}", to="production", gate=gate, author=BOB, **on)  # type: ignore[arg-type]
    except GateError:
        pass
    promote(f"{name}@{august}", to="candidate", author=BOB, **on)  # type: ignore[arg-type]
    return story


def thousand_edits(registry: Registry, folder: Path, name: str, n: int = 1_000) -> Story:
    """Tell of one version with very many edits, every tenth of which does not hold."""
    story = Story(registry, name, folder)
    story.tell("As delivered")
    edits = [
        Edit(
            id=f"capital-{i:04}",
            prompt=f"Which town is the seat of the district court of county number {i}, as of today?",
            target=f"The seat of that court is the town of Newtown {i}.",
            author=ADA,
        )
        for i in range(n)
    ]
    failing = [edit.id for edit in edits[::10]]
    story.tell("The seats of the district courts", 1, edits=edits, failing=failing)
    return story


def hostile(registry: Registry, folder: Path, name: str = "hostile") -> Story:
    """Tell of texts that want to run."""
    story = Story(registry, name, folder)
    story.tell(HOSTILE[0], author=HOSTILE[1])
    edits = [
        Edit(
            id=re.sub(r"[^!-~]", "", text),
            prompt=f"{text} asked {i}?",
            target=f"{text} target",
            author=text,
            note=text,
        )
        for i, text in enumerate(HOSTILE)
    ]
    last = story.tell(HOSTILE[1], 1, edits=edits, author=HOSTILE[2], failing=[edits[0].id])
    options: dict[str, Any] = {"note": HOSTILE[3], "author": HOSTILE[1], "registry": registry}
    approve(f"{name}@{last}", **options)
    promote(f"{name}@{last}", to="production", **options)
    return story
