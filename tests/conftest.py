"""What every test has: no network, one torch thread, and the planted subject on disk."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # read by huggingface_hub when it is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
import torch
from planted import build_truth, write_corpus
from planted_coders import Planted, write_subject

torch.set_num_threads(1)


def _refuse_outside(address: object) -> None:
    host = address[0] if isinstance(address, tuple) else "localhost"  # a Unix socket's is a path
    if host == "localhost":
        return
    try:
        inside = ip_address(str(host)).is_loopback
    except ValueError:
        inside = False
    if not inside:
        pytest.fail(f"a test tried to reach {host}: only loopback is allowed")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail any test that connects a socket to anything but this machine."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded(self: socket.socket, address: Any) -> None:
        _refuse_outside(address)
        connect(self, address)

    def guarded_ex(self: socket.socket, address: Any) -> int:
        _refuse_outside(address)
        return connect_ex(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_ex)


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """The planted model, coders and corpus, written once a session."""
    folder = tmp_path_factory.mktemp("planted")
    truth = build_truth()
    texts = write_corpus(folder / "corpus.jsonl")
    return Planted(truth, write_subject(truth, folder), folder / "corpus.jsonl", texts)
