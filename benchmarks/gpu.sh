#!/usr/bin/env bash
# What a GPU shows: engine equality, the cost claims C4 to C8 at the architectures of Qwen3-1.7B and
# 8B, an end-to-end run, and the simulator. At most 8 minutes on one 80 GB card; one JSON file.
#
#     benchmarks/gpu.sh [OUT.json] [WHEELS] [--only PART] [--strategy NAME]
#
# It uses the python3 at hand when that has torch and transformers; WHEELS is a folder of wheels for
# what it lacks (polars and pydantic with their needs), installed aside without a network.
# RECAST_DATA names a data folder in MiniOneRec's layout for the end-to-end run, RECAST_CATEGORY one of
# its categories where it holds several; what cannot be read is refused before anything runs. Each
# part has a time limit of its own, and the file is whole after every single measurement.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-build/gpu.json}
wheels=${2:-}
python=${PYTHON:-python3}
mkdir -p "$(dirname "$out")"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
export TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1
export PYTORCH_ALLOC_CONF=expandable_segments:True PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
if [ -n "$wheels" ]; then
    site=$(mktemp -d)
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir \
        --target "$site" "$wheels"/*.whl || echo "wheels: not installed; some parts will fail"
    export PYTHONPATH=$PYTHONPATH:$site
fi
exec "$python" -m benchmarks.gpu "$out" --seconds "${SECONDS_IN_ALL:-470}" "${@:3}"
