"""Outcomes of all kinds, of random values, for those who write them down and read them back."""

from __future__ import annotations

from hypothesis import strategies as st

from autointerp.latents import Choice, Failure, Label, Number, Outcome, Values

_source = st.sampled_from(["activating", "random", "token", "neighbour"])
_decile = st.none() | st.integers(0, 9)
_real = st.floats(allow_nan=False)
_name = st.text("0123456789abcdef", min_size=16, max_size=16)
_request = st.none() | st.sampled_from(["a1", "b2", "c3"]) | _name
_choice = (st.integers(2, 9), st.integers(0, 8), st.integers(0, 8))


def outcomes(longest: int | None = None) -> st.SearchStrategy[Outcome]:
    """``longest`` is the most numbers that one outcome holds."""
    reals = st.lists(_real, max_size=longest).map(tuple)
    return st.one_of(
        st.builds(
            Label, st.booleans(), st.booleans(), st.none() | _real, _source, _decile, _request
        ),
        st.builds(Choice, *_choice, _source, _decile, _request),
        st.builds(Values, reals, reals, _source, _decile),
        st.builds(Number, _real, _source, _decile),
        st.builds(Failure, st.text(), _source, _decile),
    )
