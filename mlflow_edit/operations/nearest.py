"""Which edits a question comes near to, in words that a reviewer understands."""

from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import Literal

from mlflow_edit.core.edit import Edit, FrozenModel, normal_text
from mlflow_edit.core.text import sure
from mlflow_edit.models.architecture import locate
from mlflow_edit.models.edited_model import EditedModel
from mlflow_edit.models.prompts import Prompt, prompt_ids
from mlflow_edit.models.upper_blocks import Example, prepare
from mlflow_edit.patches.codebook import Codebook, Recalled
from mlflow_edit.patches.encoder_codebook import EncoderCodebook
from mlflow_edit.patches.encoder_scope import Decision
from mlflow_edit.patches.radii import exact_distances

LIKELY, UNLIKELY = 0.25, 0.01  # probabilities below the threshold: what a reviewer is told


class Candidate(FrozenModel):
    """An edit near a prompt; distance and radius are in L2 units of the key space.

    Of an edit that is in weights (`by` words) the distance is the share of its words' letters that
    differ: whether the edit has a part in the answer nobody can tell from that.

    `prompt` is what the entry is asked by. `match` is the probability that both ask the same, where
    the scope is an encoder's; `threshold` is the probability from which it fires, the radius then
    only says how far off entries are looked at. `keeps` marks a prompt that the edit leaves to the
    base model.
    """

    edit_id: str
    batch: str
    prompt: str
    target: str
    distance: float
    radius: float
    inside: bool
    match: float | None = None
    threshold: float | None = None
    keeps: bool = False
    said: str = ""
    by: Literal["scope", "words"] = "scope"

    @property
    def fires(self) -> str:
        """When it fires, in words."""
        if self.by == "words":
            return "in weights"
        if self.threshold is not None:
            return f"from {100 * self.threshold:.0f} %"
        return f"within {self.radius:.2f}, at {self.distance:.2f}"


Edits = Mapping[tuple[str, str], Edit]


def nearest_edits(
    edited: EditedModel, edits: Edits, prompt: Prompt, *, n_nearest: int
) -> list[Candidate]:
    """List the edits nearest to a prompt: those inside first, then by match and distance.

    Args:
        edited: the version's model.
        edits: its edits by batch and id.
        prompt: a question or a conversation.
        n_nearest: how many to list of each codebook.
    """
    found: list[Candidate] = []
    for book in edited.composition.patches:
        if isinstance(book, Codebook):
            found += _by_state(edited, book, edits, prompt, n_nearest)
        else:
            found += _by_meaning(edited, book, edits, prompt, n_nearest)
    found += _by_words(edited, edits, prompt, n_nearest)
    return sorted(found, key=lambda c: (not c.inside, -(c.match or 0.0), c.distance))


def _by_words(edited: EditedModel, edits: Edits, prompt: Prompt, n_nearest: int) -> list[Candidate]:
    """Rank the edits of deltas by how alike their words are to the prompt's: a guess, no more."""
    weights = edited.composition.weights
    asked = edited.query_of(prompt).text if not isinstance(prompt, str) else prompt
    found = []
    for (batch, edit_id), edit in edits.items():
        if weights is None or batch not in weights.batches:
            continue
        unlike = unlikeness(asked, edit.prompt)
        found.append(
            Candidate(
                edit_id=edit_id,
                batch=batch,
                prompt=edit.prompt,
                target=edit.target,
                distance=unlike,
                radius=0.0,
                inside=False,
                by="words",
                said=f"{100 * (1 - unlike):.0f} % the same letters" if unlike else "the same words",
            )
        )
    return sorted(found, key=lambda c: (c.distance, c.batch, c.edit_id))[:n_nearest]


def unlikeness(asked: str, prompt: str) -> float:
    """Return the share of letters in which two questions differ, from 0 to 1."""
    return 1 - SequenceMatcher(None, normal_text(asked), normal_text(prompt)).ratio()


def _by_state(
    edited: EditedModel, book: Codebook, edits: Edits, prompt: Prompt, n_nearest: int
) -> list[Candidate]:
    """Rank the entries of a codebook by their distance from the prompt's key."""
    base = edited.base
    ids = tuple(prompt_ids(base, prompt))
    with edited.silenced():  # keys are read under the weights in force
        prepared = prepare(base, locate(base.model, book.layer), [Example(ids, (0,), owner=0)])
    distances = exact_distances(prepared.keys.float().cpu(), book.keys.float())[0]
    distances[book.key_tokens != int(prepared.key_tokens[0])] = float("inf")
    radii = book.radii_in(prepared.keys.dtype)
    inside = (distances <= radii).nonzero()[:, 0]
    query = prepared.keys[0].float().cpu()
    recalled = book.recall(query, inside, distances[inside]) if len(inside) else None
    found = []
    for i in distances.argsort()[:n_nearest].tolist():
        if not bool(distances[i].isfinite()):
            break
        distance, radius = float(distances[i]), float(radii[i])
        batch = edited.composition.batch_of[book.entry_digests[i]]
        edit = edits[batch, book.edit_ids[i]]
        found.append(
            Candidate(
                edit_id=edit.id,
                batch=batch,
                prompt=edit.prompt,
                target=edit.target,
                distance=distance,
                radius=radius,
                inside=distance <= radius and recalled is not None,
                match=recalled.match if recalled is not None and recalled.entry == i else None,
                said=_said_of_state(distance, radius, recalled),
            )
        )
    return found


def _said_of_state(distance: float, radius: float, recalled: Recalled | None) -> str:
    if distance > radius:
        return f"{distance / radius:.1f} radii away"
    return "within reach, and the gate is shut" if recalled is None else "inside"


def _by_meaning(
    edited: EditedModel, book: EncoderCodebook, edits: Edits, prompt: Prompt, n_nearest: int
) -> list[Candidate]:
    """Rank the entries of a codebook by how surely they ask what the prompt asks."""
    query = edited.query_of(prompt)
    scope = book.scope(edited.encoder(book.encoder))
    found = []
    for one in scope.nearest([query])[0][:n_nearest]:
        if one.entry < 0:
            continue
        batch = edited.composition.batch_of[book.entry_digests[one.entry]]
        edit = edits[batch, book.edit_ids[one.entry]]
        keeps = bool(book.spans[one.entry] == 0)
        found.append(
            Candidate(
                edit_id=edit.id,
                batch=batch,
                prompt=book.prompts[one.entry],
                target=edit.target,
                distance=one.distance,
                radius=float(book.radii[one.entry]),
                inside=one.inside,
                match=one.match,
                threshold=float(book.thresholds[one.entry]),
                keeps=keeps,
                said=said_of(one, keeps=keeps),
            )
        )
    return found


def said_of(decision: Decision, *, keeps: bool) -> str:
    """Say in words how near a question comes to an entry."""
    likely = sure(decision.match)
    if decision.inside:
        asks = "the same words" if decision.match == 1.0 else f"asks the same ({likely})"
        return f"{asks}; kept with the base model" if keeps else asks
    if decision.match >= LIKELY:
        return f"may ask the same ({likely})"
    if decision.match >= UNLIKELY:
        return f"related, but asks something else ({likely})"
    return "asks something else"
