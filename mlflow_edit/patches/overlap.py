"""Where the scopes of two codebooks meet and want different answers."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mlflow_edit.core.edit import normal_text
from mlflow_edit.patches.codebook import Codebook
from mlflow_edit.patches.encoder_codebook import EncoderCodebook
from mlflow_edit.patches.encoder_scope import ABOUT, ALIKE
from mlflow_edit.patches.radii import effective_radii, exact_distances
from mlflow_edit.patches.scope import Encoder, Query
from mlflow_edit.patches.subject_index import SubjectIndex

CHUNK = 512
SAME_TEXT = 1e-2  # L2: keys of one text, however rounded

OverlapKind = Literal["contradiction", "steal", "shadow"]


class Overlap(NamedTuple):
    """Entry `ours` of one codebook and `theirs` of the other, at an L2 `distance`."""

    kind: OverlapKind
    ours: int
    theirs: int
    distance: float


def overlaps(ours: Codebook, theirs: Codebook) -> Iterator[Overlap]:
    r"""Find entries that want different answers and that change each other's scope.

    With the reach $r_i, r_j$ of the entries (a codebook's requested radii) and the distance $d$ of
    keys with the same key token:

    * contradiction, $d \le \max(r_i, r_j)$: one edit's own question lies in the other's scope;
    * steal, $\max(r_i, r_j) < d < r_i + r_j$: inputs between them are answered by the nearer;
    * shadow, $r_i + r_j \le d < 2 \max(r_i, r_j)$: the larger scope shrinks to $d / 2$, and what
      it loses is answered by the base model.

    In all three the radii in force part the two scopes half-way (see `patches.radii`).
    Codebooks of different layers or widths do not meet. Entries of a memory change no scope, but
    are read together: theirs meet where one has a say at the other's key (see `Memory.reach`).
    """
    if ours.place != theirs.place or not len(ours) or not len(theirs):
        return
    if ours.keys.shape[1] != theirs.keys.shape[1]:
        return
    labels = {label: i for i, label in enumerate(sorted({*ours.labels, *theirs.labels}))}
    mine = torch.tensor([labels[label] for label in ours.labels])
    other = torch.tensor([labels[label] for label in theirs.labels])
    keys, reach, their_reach = theirs.keys.float(), ours.reach, theirs.reach
    for start in range(0, len(ours), CHUNK):
        rows = slice(start, start + CHUNK)
        distances = exact_distances(ours.keys[rows].float(), keys)
        larger = torch.maximum(reach[rows, None], their_reach[None, :])
        meet = (
            (distances < 2 * larger)
            & (ours.key_tokens[rows, None] == theirs.key_tokens[None, :])
            & (mine[rows, None] != other[None, :])
        )
        for i, j in meet.nonzero().tolist():
            distance, most = float(distances[i, j]), float(larger[i, j])
            both = float(reach[start + i] + their_reach[j])
            yield Overlap(_kind(distance, most, both), start + i, j, distance)


def encoder_overlaps(
    ours: EncoderCodebook, theirs: EncoderCodebook, encoder: Encoder
) -> Iterator[Overlap]:
    r"""Find entries of two encoder codebooks that want different answers to the same question.

    With the probability $p$ that one's prompt asks what the other's asks (the larger of both ways)
    and the smaller $t$ of their thresholds:

    * contradiction, $p \ge t$ and both give an answer;
    * shadow, $p \ge t$ and one keeps the base model's answer: what it wins the other loses;
    * steal, $t / 2 \le p < t$: wordings between the two may go to either.

    Codebooks of different encoders do not meet.
    """
    if ours.encoder != theirs.encoder or not len(ours) or not len(theirs):
        return
    keys = theirs.keys.float()
    for start in range(0, len(ours), CHUNK):
        rows = slice(start, start + CHUNK)
        distances = exact_distances(ours.keys[rows].float(), keys)
        near = distances <= torch.maximum(ours.radii[rows, None], theirs.radii[None, :])
        near &= _may_be_about(ours, rows, theirs) | (distances <= ALIKE)
        near |= distances <= SAME_TEXT
        pairs = [
            (start + i, j)
            for i, j in near.nonzero().tolist()
            if ours.labels[start + i] != theirs.labels[j]
        ]
        forth = _matches(encoder, [(ours, i, theirs, j) for i, j in pairs])
        back = _matches(encoder, [(theirs, j, ours, i) for i, j in pairs])
        for (i, j), match in zip(pairs, torch.maximum(forth, back).tolist(), strict=True):
            least = float(torch.minimum(ours.thresholds[i], theirs.thresholds[j]))
            if match >= least / 2:
                both = bool(ours.spans[i] > 0) and bool(theirs.spans[j] > 0)
                alike: OverlapKind = "contradiction" if both else "shadow"
                kind: OverlapKind = alike if match >= least else "steal"
                yield Overlap(kind, i, j, float(distances[i - start, j]))


def _may_be_about(ours: EncoderCodebook, rows: slice, theirs: EncoderCodebook) -> Tensor:
    """Tell which prompts name the other's subject, `(n_rows, n_theirs)`, or have none to name."""
    mine, other = SubjectIndex(ours.subjects[rows]), SubjectIndex(theirs.subjects)
    forth = torch.stack([torch.from_numpy(other.shares(text)) for text in ours.prompts[rows]])
    back = torch.stack([torch.from_numpy(mine.shares(text)) for text in theirs.prompts]).T
    unnamed = torch.tensor([not subject for subject in theirs.subjects])[None, :]
    unnamed = unnamed | torch.tensor([not subject for subject in ours.subjects[rows]])[:, None]
    return (torch.maximum(forth, back) >= ABOUT) | unnamed


def _matches(
    encoder: Encoder, pairs: Sequence[tuple[EncoderCodebook, int, EncoderCodebook, int]]
) -> Tensor:
    """Return the probability that the second entry of each pair asks what the first asks."""
    if not pairs:
        return torch.zeros(0)
    same = [
        normal_text(one.prompts[i]) == normal_text(other.prompts[j]) for one, i, other, j in pairs
    ]
    found = encoder.match(
        [one.question(i) for one, i, _, _ in pairs],
        [Query(other.prompts[j]) for _, _, other, j in pairs],
    )
    return torch.where(torch.tensor(same), torch.ones_like(found), found)


def changed_radii(old: Codebook, new: Codebook) -> Iterator[tuple[int, float, float]]:
    """Yield (entry of `new`, radius before, radius now) where the radii in force differ.

    Only entries near to one that came or went are looked at: the cost is that of what changed.
    """
    was = {digest: i for i, digest in enumerate(old.entry_digests)}
    now = {digest: i for i, digest in enumerate(new.entry_digests)}
    both = [digest for digest in new.entry_digests if digest in was]
    came = torch.tensor([i for digest, i in now.items() if digest not in was], dtype=torch.long)
    went = torch.tensor([i for digest, i in was.items() if digest not in now], dtype=torch.long)
    if not both or not len(came) + len(went):
        return
    keys = torch.cat([new.keys[came].float(), old.keys[went].float()])
    tokens = torch.cat([new.key_tokens[came], old.key_tokens[went]])
    most = float(torch.cat([new.radii, old.radii]).max())
    places = torch.tensor([now[digest] for digest in both])
    near = torch.zeros(len(both), dtype=torch.bool)
    for start in range(0, len(both), CHUNK):
        rows = places[start : start + CHUNK]
        distances = exact_distances(new.keys[rows].float(), keys)
        reach = 2 * (new.radii[rows, None] + most)
        same_token = new.key_tokens[rows, None] == tokens[None, :]
        near[start : start + CHUNK] = ((distances <= reach) & same_token).any(dim=1)
    rows = near.nonzero()[:, 0]
    mine, theirs = places[rows], torch.tensor([was[both[i]] for i in rows.tolist()]).long()
    after = effective_radii(new.keys, new.radii, new.labels, new.key_tokens, of=mine)
    before = effective_radii(old.keys, old.radii, old.labels, old.key_tokens, of=theirs)
    for i, radius, other in zip(mine.tolist(), before.tolist(), after.tolist(), strict=True):
        if radius != other:
            yield i, radius, other


def _kind(distance: float, larger: float, both: float) -> OverlapKind:
    if distance <= larger:
        return "contradiction"
    return "steal" if distance < both else "shadow"
