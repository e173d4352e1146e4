"""Find the entries whose subject a text names, by the letters of the name."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlflow_edit.core.subjects import trigrams


class SubjectIndex:
    """The subjects of a set of entries, by their trigrams.

    Args:
        subjects: the name that each entry is about, or "".
    """

    def __init__(self, subjects: Sequence[str]) -> None:
        self._sizes = np.ones(len(subjects), dtype=np.float32)
        entries_of: dict[str, list[int]] = defaultdict(list)
        for entry, subject in enumerate(subjects):
            found = trigrams(subject) if subject else set()
            self._sizes[entry] = max(1, len(found))
            for trigram in found:
                entries_of[trigram].append(entry)
        self._entries_of = {t: np.array(some, dtype=np.int64) for t, some in entries_of.items()}

    def shares(self, text: str) -> NDArray[np.float32]:
        """Return the share of each subject's trigrams that a text has, `(n_entries,)` in [0, 1].

        It is `core.subjects.overlap` of all subjects at once; 0 where there is no subject.
        """
        counts = np.zeros(len(self._sizes), dtype=np.float32)
        for trigram in trigrams(text):
            if trigram in self._entries_of:
                counts[self._entries_of[trigram]] += 1
        return counts / self._sizes
