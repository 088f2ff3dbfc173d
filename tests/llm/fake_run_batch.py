"""Stands in for ``vllm run-batch`` in tests: takes its arguments, answers a file as a test server.

It appends its arguments to FAKE_RUN_BATCH_RECORD as a line of JSON. A request that says "die"
ends it as vLLM ends; one that says "skip" is left out, one that says "refuse" is refused; one that
says "sleep" keeps it waiting for ever.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from llm_server import LLMServer


def main() -> None:
    with Path(os.environ["FAKE_RUN_BATCH_RECORD"]).open("a") as record:
        record.write(json.dumps(sys.argv[1:]) + "\n")
    given = dict(zip(sys.argv[1:], sys.argv[2:], strict=False))
    lines = [json.loads(line) for line in Path(given["-i"]).read_text().splitlines()]
    found = [output for line in lines if (output := answered(line)) is not None]
    Path(given["-o"]).write_text("".join(json.dumps(output) + "\n" for output in found))


def answered(line: dict[str, Any]) -> dict[str, Any] | None:
    said: str = line["body"]["messages"][-1]["content"]
    head = {"id": "vllm-1", "custom_id": line["custom_id"]}
    if said == "die":
        sys.stderr.write("INFO starting\nValueError: No memory for the cache\n")
        sys.exit(1)
    if said == "sleep":
        time.sleep(600)
    if said == "skip":
        return None
    if said == "refuse":
        error = {"error": {"message": "the prompt is too long", "code": 400}}
        return {**head, "response": {"status_code": 400, "request_id": "1"}, "error": error}
    body = LLMServer(answer=lambda _: f"yes, {said}")._completion(line["body"], "key", None)
    return {
        **head,
        "response": {"status_code": 200, "request_id": "1", "body": body},
        "error": None,
    }


if __name__ == "__main__":
    main()
