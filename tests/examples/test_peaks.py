"""Which tokens stand for a latent, from the tokens that its windows peak on."""

from __future__ import annotations

import numpy as np
import pytest

from autointerp.examples.peaks import peak_tokens


def test_the_commonest_tokens_are_taken_until_they_make_up_four_fifths() -> None:
    peaks = np.array([7] * 5 + [3] * 3 + [9] * 2, np.int32)
    found = peak_tokens(peaks)
    assert found.tokens.tolist() == [7, 3]
    assert found.shares == pytest.approx([0.5, 0.3])


def test_of_many_rare_tokens_sixteen_are_taken() -> None:
    found = peak_tokens(np.arange(100, dtype=np.int32))
    assert found.tokens.tolist() == list(range(16))
    assert found.shares == pytest.approx([0.01] * 16)


def test_no_windows_have_no_peak_tokens() -> None:
    found = peak_tokens(np.zeros(0, np.int32))
    assert len(found.tokens) == len(found.shares) == 0
