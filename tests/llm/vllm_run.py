"""A run that has started a vLLM server, for tests that end it: prints READY, then waits.

Usage: vllm_run.py FOLDER COMMAND…
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from autointerp.llm.vllm_server import serving
from autointerp.sections import LLMSection, ServeSection


async def main(folder: str, *command: str) -> None:
    serve = ServeSection(command=list(command))
    section = LLMSection(backend="vllm", model="test", serve=serve)
    async with serving({"judge": section}, Path(folder)):
        print("READY", flush=True)
        await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
