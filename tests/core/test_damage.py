"""A small run of the stress on damaged and malformed files; the whole one is tests/stress."""

import random

from stress.damage import flips, fuzz


def test_every_flipped_bit_is_refused() -> None:
    assert flips(1500, random.Random(1)) == {"refused": 1500}


def test_malformed_input_gets_our_errors_quickly() -> None:
    found = fuzz(4000, random.Random(2))
    assert found["refused"] > 1000
    assert found["slowest_seconds"] < 1.0
