"""Finding a model's module by the end of its path."""

from __future__ import annotations

import difflib
from typing import Any

from autointerp.latents import AutointerpError


class Modules:
    """The modules of a model by full path."""

    def __init__(self, model: Any, model_name: str) -> None:
        self.model_name = model_name
        self._modules: dict[str, Any] = {path: m for path, m in model.named_modules() if path}
        decoder = model.get_decoder()  # of a model that also sees, the part that reads text
        paths = (path for path, module in self._modules.items() if module is decoder)
        self._decoder = next(paths, "model")

    def __getitem__(self, path: str) -> Any:
        return self._modules[path]

    def find(self, name: str) -> str:
        """The full path of the one module whose path ends in ``name``, on dotted boundaries.

        Where a language model is part of a larger one, its modules come first, and ``model.``
        may stand for the way to it, as it does in the language model by itself.

        Raises:
            AutointerpError: if no module ends so, or several do; the near names are listed.
        """
        if name in self._modules:
            return name
        found = self._ending(name)
        if len(found) == 1:
            return found[0]
        if found:
            raise AutointerpError(
                f"hook point {name!r} is ambiguous in {self.model_name}: it could be"
                f" {', '.join(found[:6])}; write more of the path"
            )
        near = difflib.get_close_matches(name, self._suffixes(), n=5, cutoff=0.5)
        hint = f"near names: {', '.join(near)}" if near else "see model.named_modules()"
        raise AutointerpError(f"no module {name!r} in {self.model_name}; {hint}")

    def _ending(self, name: str) -> list[str]:
        inner = f"{self._decoder}.{name.removeprefix('model.')}"
        if inner in self._modules:
            return [inner]
        return [path for path in self._modules if path.endswith("." + name)]

    def _suffixes(self) -> list[str]:
        # Bare numbers and one-word ends would crowd out the names that a person means.
        parts = (path.split(".") for path in self._modules)
        return sorted({".".join(p[i:]) for p in parts for i in range(max(1, len(p) - 1))})
