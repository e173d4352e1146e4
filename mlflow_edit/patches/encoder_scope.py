"""Decide by meaning which entry answers: nearest embeddings first, then a re-check of each."""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from mlflow_edit.core.edit import normal_text
from mlflow_edit.patches.key_index import KeyIndex
from mlflow_edit.patches.scope import Encoder, Query
from mlflow_edit.patches.subject_index import SubjectIndex

if TYPE_CHECKING:
    from mlflow_edit.patches.encoder_codebook import EncoderCodebook

CANDIDATES = 6  # nearest entries that are looked at
NAMED = 3  # nearest of the entries whose subject is named, looked at however far they are
ABOUT = 0.55  # share of a subject's trigrams from which on a text may be about it
ALIKE = 0.8  # distance up to which the wording is so near that the subject need not be named
REMEMBERED = 4096  # decisions kept: the same text is decided again at every layer and turn


class Decision(NamedTuple):
    """How near a query comes to asking what an entry asks; the entry is -1 where there is none.

    `distance` is L2 between its key and the nearest passage, `match` the probability that the
    query asks the same, `inside` whether that reaches the entry's threshold. The entry answers
    where it is `in_scope`: inside, and not one that keeps the base model's answer.
    """

    entry: int
    distance: float
    match: float
    inside: bool
    in_scope: bool


NOWHERE = Decision(-1, float("inf"), 0.0, False, False)


class EncoderScope:
    """The scope of a set of entries: a pure function of that set, the encoder and the query.

    An entry whose prompt *is* the query answers. Of the others, the `CANDIDATES` nearest and the
    `NAMED` nearest of those whose subject the query names are looked at. Those that the query may
    be about (it names the subject, or is worded alike) are re-checked together with the query;
    the one that matches best answers, if it reaches its threshold. Ties go to the entry with the
    smaller digest. An entry of span 0 that wins keeps the query with the base model.
    """

    def __init__(self, book: "EncoderCodebook", encoder: Encoder) -> None:
        self._book, self._encoder = book, encoder
        self._keys = KeyIndex(book.keys)
        self._subjects = SubjectIndex(book.subjects)
        self._unnamed = torch.tensor([not subject for subject in book.subjects], dtype=torch.bool)
        self._decided: OrderedDict[Query, Decision] = OrderedDict()
        self._lock = Lock()

    def decide(self, queries: Sequence[Query]) -> list[Decision]:
        """Decide for each query which entry answers."""
        with self._lock:
            known = {query: self._decided[query] for query in queries if query in self._decided}
        new = [query for query in dict.fromkeys(queries) if query not in known]
        if new:
            known.update(zip(new, (found[0] for found in self.nearest(new)), strict=True))
            with self._lock:
                for query in new:
                    self._decided[query] = known[query]
                while len(self._decided) > REMEMBERED:
                    self._decided.popitem(last=False)
        return [known[query] for query in queries]

    def nearest(self, queries: Sequence[Query]) -> list[list[Decision]]:
        """Return for each query the entries that were looked at; the one that decides is first."""
        if not len(self._book):
            return [[NOWHERE] for _ in queries]
        found: list[list[Decision]] = [[] for _ in queries]
        asked: list[tuple[int, int, float]] = []  # query, entry, distance
        for i, (query, near) in enumerate(zip(queries, self._near(queries), strict=True)):
            exact = self._book.by_prompt.get(normal_text(query.text))
            if exact is not None:
                found[i].append(self._decision(exact, 0.0, 1.0))
            for entry, distance, may_be_about in near:
                if entry == exact:
                    continue
                if may_be_about:
                    asked.append((i, entry, distance))
                else:
                    found[i].append(Decision(entry, distance, 0.0, False, False))
        self._recheck(queries, asked, found)
        return [_ranked(one) for one in found]

    def _near(self, queries: Sequence[Query]) -> list[list[tuple[int, float, bool]]]:
        """List the entries to look at, how far they are, and if the query may be about them."""
        passages = [query.passages() for query in queries]
        sizes = [len(texts) for texts in passages]
        embedded = self._encoder.embed([text for texts in passages for text in texts])
        nearest = self._keys.search(embedded, CANDIDATES)[1]
        found, start = [], 0
        for query, size in zip(queries, sizes, strict=True):
            mine = slice(start, start + size)
            found.append(self._looked_at(query, embedded[mine], nearest[mine]))
            start += size
        return found

    def _looked_at(
        self, query: Query, passages: Tensor, nearest: Tensor
    ) -> list[tuple[int, float, bool]]:
        named = torch.from_numpy(self._subjects.shares(f"{query.text} {query.earlier}")) >= ABOUT
        found: dict[int, tuple[float, bool]] = {}
        near = torch.tensor(sorted(set(nearest.flatten().tolist())))
        for entries, n in ((near, CANDIDATES), (named.nonzero()[:, 0], NAMED)):
            similar = (self._book.keys[entries].float() @ passages.T).amax(dim=1)
            distances = (2 - 2 * similar).clamp(min=0).sqrt()
            about = named[entries] | self._unnamed[entries] | (distances <= ALIKE)
            radii = self._book.radii[entries]
            about &= (distances <= radii) & (radii > 0)  # of radius 0: its own words, no others
            for place in distances.argsort(stable=True)[:n].tolist():
                found[int(entries[place])] = (float(distances[place]), bool(about[place]))
        return [(entry, *rest) for entry, rest in sorted(found.items())]

    def _recheck(
        self,
        queries: Sequence[Query],
        asked: Sequence[tuple[int, int, float]],
        found: list[list[Decision]],
    ) -> None:
        if not asked:
            return
        questions = [self._book.question(entry) for _, entry, _ in asked]
        matches = self._encoder.match(questions, [queries[i] for i, _, _ in asked])
        for (i, entry, distance), match in zip(asked, matches.tolist(), strict=True):
            found[i].append(self._decision(entry, distance, match))

    def _decision(self, entry: int, distance: float, match: float) -> Decision:
        inside = match >= float(self._book.thresholds[entry])
        answers = inside and bool(self._book.spans[entry] > 0)
        return Decision(entry, distance, match, inside, answers)


def _ranked(found: list[Decision]) -> list[Decision]:
    """Put the entry that decides first: inside, the best match, the nearest."""
    return sorted(found, key=lambda one: (not one.inside, -one.match, one.distance, one.entry))
