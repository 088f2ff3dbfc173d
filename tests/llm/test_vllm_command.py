"""How a server is called, what its configuration refuses, and what is read from its log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from autointerp.config import build_config
from autointerp.latents import AutointerpError
from autointerp.llm.vllm_command import command_line, environment, telling_line
from autointerp.sections import LLMSection, ServeSection


def serving_section(**serve: Any) -> LLMSection:
    return LLMSection(backend="vllm", model="test", serve=ServeSection(**serve))


@pytest.mark.parametrize(
    ("serve", "expected"),
    [
        ({}, []),
        ({"gpus": [3]}, []),
        ({"gpus": [0, 1]}, ["--data-parallel-size", "2"]),
        ({"gpus": [0, 1], "data_parallel": 1}, ["--tensor-parallel-size", "2"]),
        (
            {"gpus": [0, 1, 2, 3], "data_parallel": 2},
            ["--data-parallel-size", "2", "--tensor-parallel-size", "2"],
        ),
        (
            {"data_parallel": 2, "args": ["--seed", "1"]},
            ["--data-parallel-size", "2", "--seed", "1"],
        ),
    ],
)
def test_gpus_are_shared_out(serve: Mapping[str, Any], expected: list[str]) -> None:
    bare = command_line(serving_section(), 20000)
    line = command_line(serving_section(**serve), 20000)
    assert line == [*bare[:-4], *expected, *bare[-4:]]


def test_the_model_stands_where_the_command_says() -> None:
    line = command_line(serving_section(command=["run", "--model={model}", "--quiet"]), 20000)
    assert line[:3] == ["run", "--model=test", "--quiet"]
    assert line.count("test") == 0


def test_the_environment_holds_the_gpus_and_no_keys() -> None:
    ours = {"CUDA_VISIBLE_DEVICES": "4,7", "OPENAI_API_KEY": "k", "VLLM_API_KEY": "k", "HOME": "/h"}
    theirs = environment(serving_section(gpus=[1]), "llms.judge", ours)
    assert theirs["CUDA_VISIBLE_DEVICES"] == "7"
    assert theirs["HOME"] == "/h"
    assert "k" not in theirs.values()
    assert environment(serving_section(gpus=[2, 0]), "", {})["CUDA_VISIBLE_DEVICES"] == "2,0"
    with pytest.raises(AutointerpError, match=r"llms\.judge\.serve\.gpus: there is no GPU 2;"):
        environment(serving_section(gpus=[2]), "llms.judge", ours)
    with pytest.raises(AutointerpError, match="shows 0"):
        environment(serving_section(gpus=[0]), "llms.judge", {"CUDA_VISIBLE_DEVICES": ""})


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["a", "vllm: error: unrecognized arguments: --x"], "error: unrecognized arguments: --x"),
        (
            ["ValueError: first", "torch.OutOfMemoryError: CUDA", "INFO bye"],
            "torch.OutOfMemoryError: CUDA",
        ),
        (
            [
                "error: argument --x: 1 validation error for X",
                "  Value error, no x. [type=v]",
                "See y",
            ],
            "Value error, no x. [type=v]",
        ),
        (["/usr/bin/python: No module named vllm"], "No module named vllm"),
        (["Killed"], "Killed"),
        (
            ["EngineDeadError: See stack trace (above).", "leaked"],
            "EngineDeadError: See stack trace (above).",
        ),
        (["(x pid=1) WARNING 11-21 OSError: many files`", "INFO bye"], "INFO bye"),
        ([], "it said nothing"),
    ],
)
def test_the_telling_line_of_a_log(lines: list[str], told: str) -> None:
    assert telling_line(lines) == told


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"serve": {"args": ["--host=0.0.0.0"]}}, "leave --host=0.0.0.0 out"),
        ({"serve": {"gpus": [0, 0]}}, "names one twice"),
        ({"serve": {"gpus": [0, 1, 2], "data_parallel": 2}}, "no equal shares"),
        ({"serve": {"gpus": [-1]}}, "greater than or equal to 0"),
        ({"serve": {}, "base_url": "http://127.0.0.1:1/v1"}, "without a base_url"),
        ({"serve": {}, "backend": "openai"}, "serve is for backend: vllm"),
    ],
)
def test_what_cannot_be_served_is_refused(fields: dict[str, Any], complaint: str) -> None:
    tree = {"llms": {"judge": {"backend": "vllm", "model": "m", **fields}}}
    with pytest.raises(AutointerpError, match=complaint):
        build_config(tree)
