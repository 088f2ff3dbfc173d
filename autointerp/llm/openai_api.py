"""Any OpenAI-compatible endpoint: sends one body, sorts what comes back into answers and faults."""

from __future__ import annotations

import json

import httpx2

from autointerp.llm.completions import read_completion
from autointerp.llm.endpoint import Endpoint
from autointerp.llm.transport import Answer, Path
from autointerp.sections import LLMSection


class OpenAITransport:
    """Sends bodies to one endpoint. Retries nothing."""

    def __init__(self, section: LLMSection, where: str, base_url: str | None) -> None:
        # One limit over the whole exchange, below.
        self._endpoint = Endpoint(section, where, base_url, timeout=None)
        self._timeout = section.timeout

    async def close(self) -> None:
        await self._endpoint.close()

    async def send(self, body: bytes, path: Path = "/chat/completions") -> Answer:
        """Post ``body`` and read the answer.

        Raises:
            Fault: if another attempt may succeed.
            Refusal: if none will.
        """
        sent = self._endpoint.client.post(
            path,
            cast_to=httpx2.Response,
            content=body,
            options={"headers": {"Content-Type": "application/json"}},
        )
        response = await self._endpoint.call(sent, self._timeout)
        said = self._endpoint.redact(response.content.decode("utf-8", "replace"))
        return read_completion(lambda: json.loads(said), len(body))
