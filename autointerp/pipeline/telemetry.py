"""How a running process fares: how far it is, how fast it goes, what it costs, what goes wrong."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from autointerp.llm.accounts import Ledger
from autointerp.sections import BudgetSection

WINDOW = 60.0  # seconds that rates are means over
_COUNTED = ("repaired", "unusable", "unpriced")

Document = dict[str, Any]


@dataclass(frozen=True)
class _Mark:
    at: float
    done: int
    sent: int


class Telemetry:
    """Notes the stages' progress and reads the ledger; :meth:`describe` may run in any thread.

    ``earlier`` is the ``llm`` section that the run's last process left in its status: its faults
    and repairs count on.
    """

    def __init__(
        self,
        ledger: Ledger,
        budget: BudgetSection,
        earlier: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ledger, self._budget, self._earlier, self._clock = ledger, budget, earlier or {}, clock
        self._began = clock()
        self._stage, self._done, self._total = "", 0, 0
        self._marks: deque[_Mark] = deque()
        self._lock = threading.Lock()

    def note(self, stage: str, done: int, total: int) -> None:
        """Take note that ``done`` of ``total`` are done of a stage."""
        with self._lock:
            if stage != self._stage:
                self._marks.clear()
                self._stage, self._done = stage, done
                self._mark()
            self._done, self._total = done, total

    def describe(self) -> Document:
        """``progress``, ``llm`` and ``budget`` of ``status.json``."""
        with self._lock:
            self._mark()
            progress, llm = self._progress(), self._llm()
        return {"progress": progress, "llm": llm, "budget": self._spent()}

    def counts(self) -> Document:
        """What went wrong with requests since the run was first started."""
        faults = Counter(self._earlier.get("faults", {})) + Counter(dict(self.ledger.faults))
        counted = {
            name: self._earlier.get(name, 0) + getattr(self.ledger, name) for name in _COUNTED
        }
        return {"faults": dict(sorted(faults.items())), **counted}

    def _mark(self) -> None:
        now = self._clock()
        self._marks.append(_Mark(now, self._done, self.ledger.gate.sent))
        while len(self._marks) > 2 and now - self._marks[1].at >= WINDOW:
            self._marks.popleft()

    def _per_second(self, what: str) -> float:
        first, last = self._marks[0], self._marks[-1]
        seconds = last.at - first.at
        return (getattr(last, what) - getattr(first, what)) / seconds if seconds > 0 else 0.0

    def _progress(self) -> Document:
        speed, left = self._per_second("done"), self._total - self._done
        return {
            "stage": self._stage,
            "done": self._done,
            "total": self._total,
            "per_second": round(speed, 4),
            "seconds_left": round(left / speed, 1) if speed > 0 else None,
        }

    def _llm(self) -> Document:
        account, gate = self.ledger.total, self.ledger.gate
        asked = account.spent.prompt_tokens
        return {
            "requests": account.spent.requests,
            "journaled": account.journaled.requests,
            "requests_per_second": round(self._per_second("sent"), 3),
            "in_flight": gate.in_flight,
            "seconds_per_request": round(gate.seconds / gate.sent, 4) if gate.sent else None,
            "cached_share": round(account.spent.cached_tokens / asked, 4) if asked else None,
            **({"waves": waves} if (waves := self.ledger.afloat.counts()) else {}),
            **self.counts(),
        }

    def _spent(self) -> Document:
        """What all starts of the run have spent together, and the limits that there are."""
        now, before, limits = self.ledger.total.spent, self.ledger.before, self._budget
        spent = {
            "dollars": round(before.dollars + now.dollars, 6),
            "prompt_tokens": before.prompt_tokens + now.prompt_tokens,
            "hours": round((self._clock() - self._began) / 3600, 4),
        }
        return {
            name: {"spent": value, "limit": getattr(limits, name)} for name, value in spent.items()
        }
