"""Stands in for ``vllm serve MODEL`` in tests: takes its arguments, then serves as a test server.

It appends its arguments and a part of its environment to FAKE_VLLM_RECORD as a line of JSON. A
request that says "die" kills it with a child of its own left behind, as an engine would be; while
the file FAKE_VLLM_BROKEN exists it dies as it starts, as vLLM does; with --hang it never answers.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from llm_server import LLMServer

TRACE = """(EngineCore_0 pid=12) ERROR 11-21 [core.py:900] ValueError: No memory for the cache
(APIServer pid=11) Traceback (most recent call last):
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""


def answer(body: dict[str, Any]) -> str:
    text: str = body["messages"][-1]["content"]
    if text == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{os.getpid()} {text}"


def record(engine: int) -> None:
    kept = ("CUDA_VISIBLE_DEVICES", "OPENAI_API_KEY", "VLLM_API_KEY", "VLLM_NO_USAGE_STATS")
    environment = {name: os.environ.get(name) for name in kept}
    started = {"argv": sys.argv[1:], "env": environment, "pids": [os.getpid(), engine]}
    with Path(os.environ["FAKE_VLLM_RECORD"]).open("a") as file:
        file.write(json.dumps(started) + "\n")


async def main() -> None:
    # It ignores SIGTERM, and so is stopped only by what stops every process.
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    engine = subprocess.Popen([sys.executable, "-I", "-S", "-c", stubborn])
    record(engine.pid)
    if Path(os.environ.get("FAKE_VLLM_BROKEN", "none")).exists():
        sys.stderr.write(TRACE)
        sys.exit(1)
    print("Starting to load model", flush=True)
    port = int(sys.argv[sys.argv.index("--port") + 1])
    if "--hang" not in sys.argv:
        await LLMServer(answer=answer, port=port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
