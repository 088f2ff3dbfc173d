"""What a notebook imports from the package itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

import autointerp


def test_every_public_name_is_there() -> None:
    for name in autointerp.__all__:
        assert getattr(autointerp, name).__name__ == name
    with pytest.raises(AttributeError, match="Latents"):
        _ = autointerp.Latents


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import autointerp, sys; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
