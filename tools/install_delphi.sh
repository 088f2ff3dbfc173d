#!/usr/bin/env bash
# Installs eai-delphi into a virtual environment of its own, which the parity test and the scoring
# benchmark start as a separate process. Its dependencies include servers and GPU libraries that
# none of its scorers need, and pins that do not fit the project's environment.
#
# Usage: tools/install_delphi.sh [FOLDER], by default .venv-delphi. AUTOINTERP_PYTHON names the
# interpreter (Python 3.11 or later). Takes about 1.5 GB of disk.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-.venv-delphi}
torch=2.13.0
delphi=0.1.3
index=https://download.pytorch.org/whl/cpu

"${AUTOINTERP_PYTHON:-python3}" -m venv "$folder"
python=$folder/bin/python
install() { "$python" -m pip install --quiet --disable-pip-version-check "$@"; }

# PyPI has no CPU builds for Linux; a mirror may.
install "torch==$torch+cpu" || install --extra-index-url "$index" "torch==$torch+cpu"
install aiofiles asyncer beartype blobfile httpx jaxtyping orjson pandas safetensors \
    scikit-learn simple-parsing tiktoken tqdm "transformers<6"
install --no-deps "eai-delphi==$delphi"

"$python" -c 'import importlib.metadata as m; print("eai-delphi", m.version("eai-delphi"))'
echo "The parity test uses it with: AUTOINTERP_DELPHI_PYTHON=$(realpath -s "$python")"
