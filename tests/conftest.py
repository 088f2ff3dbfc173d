"""What every test has: no network, one torch thread, and the planted subject on disk."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # read by huggingface_hub when it is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
import torch
from hypothesis import HealthCheck, settings
from planted import build_truth, write_corpus
from planted_coders import Planted, write_subject

torch.set_num_threads(1)
# What a shell starts in the background ignores Ctrl-C, and so would the programs under test.
signal.signal(signal.SIGINT, signal.default_int_handler)
# An example may take its time: other tests run beside it.
settings.register_profile("beside", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("beside")


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


class _Header(ctypes.Structure):
    """``cap_user_header_t`` of Linux, for the calling thread."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Capabilities(ctypes.Structure):
    """``cap_user_data_t`` of Linux, of which version 3 has two."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


_VERSION_3 = 0x20080522
_READ_AND_WRITE_ANYTHING = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
_KEPT = "root's powers over files cannot be given up here"


@pytest.fixture
def without_root_powers() -> Iterator[None]:
    """Root is held to the modes of files, as everybody is, by this thread and those it starts."""
    if os.geteuid() != 0:
        yield
        return
    if sys.platform != "linux":
        pytest.skip(f"{_KEPT}: run the tests as another user")
    libc = ctypes.CDLL(None, use_errno=True)
    header, kept, less = _Header(_VERSION_3, 0), (_Capabilities * 2)(), (_Capabilities * 2)()
    refused = [libc.capget(ctypes.byref(header), held) for held in (kept, less)]
    less[0].effective &= ~_READ_AND_WRITE_ANYTHING
    if any(refused) or libc.capset(ctypes.byref(header), less):
        reason = os.strerror(ctypes.get_errno())
        pytest.skip(f"{_KEPT} ({reason}): run the tests as another user")
    yield
    assert libc.capset(ctypes.byref(header), kept) == 0, os.strerror(ctypes.get_errno())


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """The planted model, coders and corpus, written once a session."""
    folder = tmp_path_factory.mktemp("planted")
    truth = build_truth()
    texts = write_corpus(folder / "corpus.jsonl")
    return Planted(truth, write_subject(truth, folder), folder / "corpus.jsonl", texts)
