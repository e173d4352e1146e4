"""The index of subjects agrees with the overlap of one subject at a time."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_edit.core.subjects import overlap
from mlflow_edit.patches.subject_index import SubjectIndex

NAMES = st.text(alphabet="abcé Ø'-1", max_size=12)


@settings(deadline=None)
@given(st.lists(NAMES, max_size=8), NAMES)
def test_shares_are_overlaps(subjects: list[str], text: str) -> None:
    shares = SubjectIndex(subjects).shares(text)
    expected = [overlap(name, text) if name else 0.0 for name in subjects]
    assert np.allclose(shares, expected)


def test_a_misspelt_subject_is_found() -> None:
    index = SubjectIndex(["Nintendo", "Botswana", ""])
    shares = index.shares("wehn was Nitendo foundet")
    assert shares.argmax() == 0
    assert shares[0] > 0.45
