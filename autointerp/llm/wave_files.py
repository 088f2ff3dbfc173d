"""A wave's file: the lines of its requests lie on disk, not in memory, until all of it is sent."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autointerp.llm.client import Usage
from autointerp.llm.transport import Answer, Route


@dataclass(frozen=True, slots=True)
class Question:
    """A request in a wave: its journal key, the bytes of its line, what it may cost at most, and
    where its answer is awaited."""

    key: str
    size: int
    estimate: Usage
    answer: asyncio.Future[Answer]


class WaveFile:
    """Requests to one endpoint, and their lines in the same order in ``path``."""

    def __init__(self, folder: Path, endpoint: Route) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.endpoint = endpoint
        self.path = folder / f"wave-{uuid.uuid4().hex}.jsonl"
        self._questions: dict[str, Question] = {}
        self.bytes = self.tokens = 0
        self._file = self.path.open("wb")

    def __len__(self) -> int:
        return len(self._questions)

    @property
    def questions(self) -> Sequence[Question]:
        """In the order of their lines."""
        return list(self._questions.values())

    def add(self, question: Question, line: bytes) -> None:
        """Add a request; one that is there already, given up by who asked, only changes hands."""
        known = question.key in self._questions
        self._questions[question.key] = question
        if known:
            return
        self._file.write(line)
        self.bytes += question.size
        self.tokens += question.estimate.prompt_tokens

    def close(self) -> None:
        """Have all lines in the file; nothing can be added after."""
        self._file.close()

    def remove(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)

    def halves(self) -> tuple[WaveFile, WaveFile]:
        """Two files with half of the requests each; this one is removed."""
        middle = len(self) // 2
        with self.path.open("rb") as lines:
            parts = [
                _written(self.path.parent, self.endpoint, part, lines.readline)
                for part in (self.questions[:middle], self.questions[middle:])
            ]
        self.remove()
        return parts[0], parts[1]


def _written(
    folder: Path, endpoint: Route, questions: Sequence[Question], line: Callable[[], bytes]
) -> WaveFile:
    file = WaveFile(folder, endpoint)
    for question in questions:
        file.add(question, line())
    file.close()
    return file
