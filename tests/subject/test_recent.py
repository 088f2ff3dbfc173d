"""What was found last, within a limit, against a list that is searched."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from autointerp.subject.recent import Recent

Put = tuple[str, int]


@given(
    limit=st.integers(0, 12),
    steps=st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abcd"), st.integers(0, 7)),  # put a value of that size
            st.lists(st.sampled_from("abcd"), max_size=3),  # ask for keys
        )
    ),
)
def test_the_latest_stay_as_far_as_they_fit(limit: int, steps: list[Put | list[str]]) -> None:
    recent: Recent[str, int] = Recent(limit, lambda size: size)
    kept: list[Put] = []  # the latest last
    for step in steps:
        if isinstance(step, tuple):
            recent.put(*step)
            kept = [pair for pair in kept if pair[0] != step[0]] + [step]
            while sum(size for _, size in kept) > limit:
                kept.pop(0)
            continue
        assert recent.among(step) == {key: size for key, size in kept if key in step}
        for key in dict.fromkeys(step):
            kept = [p for p in kept if p[0] != key] + [p for p in kept if p[0] == key]
    assert [key for key in "abcd" if key in recent] == sorted(key for key, _ in kept)
