"""The small harvest of ``harvesting``, made once for the tests that only read it."""

from __future__ import annotations

import pytest
from harvesting import CONTEXT, TEXTS, attached, harvest

from autointerp.examples.options import Attached
from autointerp.examples.store import ExampleStore
from autointerp.subject.loading import load_subject
from autointerp.subject.model import Subject


@pytest.fixture(scope="session")
def subject() -> Subject:
    return load_subject("demo", context_length=CONTEXT, batch_tokens=1024)


@pytest.fixture(scope="session")
def coders(subject: Subject) -> dict[str, Attached]:
    return attached(subject)


@pytest.fixture(scope="session")
def store(
    subject: Subject, coders: dict[str, Attached], tmp_path_factory: pytest.TempPathFactory
) -> ExampleStore:
    return harvest(subject, coders, tmp_path_factory.mktemp("store"), TEXTS)
