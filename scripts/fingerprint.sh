#!/usr/bin/env bash
# Hashes of what the commands compute: run it on two commits, and compare the lines.
#     scripts/fingerprint.sh FOLDER [PYTHON]
# A short training, its metrics, a cached sweep, predictions and their score; minutes on a CPU.
# STEPS=200 trains longer, so that things are found and their order matters. Lines of two commits are
# equal if a change left every number alone (same machine, same versions).
set -euo pipefail
out=${1:?usage: scripts/fingerprint.sh FOLDER [PYTHON]}
python=${2:-.venv/bin/python}
export OMP_NUM_THREADS=1 PYTHONWARNINGS=ignore
quiet=(trainer=cpu trainer.enable_progress_bar=false)
data=("data.root=$out/toy" data.toy.num_train=40 data.toy.num_val=12)
mkdir -p "$out"

train() { # NAME OVERRIDES...
  local name=$1; shift
  "$python" -m refine.train "hydra.run.dir=$out/$name" "${data[@]}" "${quiet[@]}" \
    "trainer.val_check_interval=${STEPS:-20}" "$@" > "$out/$name.log"
}

train t0 experiment=toy_ibpp0 "trainer.max_steps=${STEPS:-20}"
train refine experiment=toy_refine "trainer.max_steps=${STEPS:-20}"
detector=$out/refine/panoptic/checkpoints/last.ckpt
[ -f "$detector" ] || detector=$(find "$out/refine" -path '*panoptic*' -name last.ckpt | head -1)
heads=$(find "$out/refine" -path '*occlusion*' -name last.ckpt | head -1)
train ranking experiment=toy_refine stage=ranking "detector_ckpt_path=$detector" trainer.max_steps=5
ranking=$(find "$out/ranking" -name last.ckpt | head -1)
"$python" -m refine.evaluate "ckpt_path=$heads" "ranking_ckpts={srm: $ranking}" \
  "save_predictions=$out/cache" "hydra.run.dir=$out/saving" "${quiet[@]}" > "$out/saving.log"
for sweep in unknown_erasing sigma merge; do
  "$python" -m refine.evaluate -m "sweep=$sweep" "predictions=$out/cache" \
    "hydra.sweep.dir=$out/sweep_$sweep" > "$out/sweep_$sweep.log"
done
"$python" -m refine.evaluate -m "predictions=$out/cache" "hydra.sweep.dir=$out/sweep_relations" \
  fusion.merge.score_thresh=0.3 fusion=heuristic,area,shr,srm,strong_baseline,soe,oracle > "$out/sweep_relations.log"
"$python" -m refine.predict "ckpt_path=$heads" "source=$out/toy/val2017" "out=$out/predicted" \
  > "$out/predict.log"
"$python" -m refine.score "gt_json=$out/toy/annotations/panoptic_val2017.json" \
  "pred_json=$out/predicted/panoptic.json" "out=$out/scored" > "$out/score.log"

"$python" - "$out" <<'PYTHON'
import hashlib
import json
import sys
from pathlib import Path

import torch

out = Path(sys.argv[1])


def line(name, content):
    print(f"{hashlib.sha256(content).hexdigest()[:16]}  {name}")


def weights(path):
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    content = hashlib.sha256()
    for key in sorted(state):
        content.update(key.encode() + state[key].contiguous().numpy().tobytes())
    return content.digest()


def metrics(path):
    values = json.loads(path.read_text())
    values.pop("images_per_second", None)
    return json.dumps(values, sort_keys=True).encode()


for path in sorted(out.rglob("checkpoints/*.ckpt")):
    line(f"weights {path.relative_to(out)}", weights(path))
for folder in sorted(p for p in out.iterdir() if p.is_dir() and p.name != "toy"):
    found = sorted(metrics(p) for p in folder.rglob("metrics.json"))
    if found:  # in any order: what the folders of a sweep are called is not what it computes
        line(f"metrics {folder.name} ({len(found)})", b"\n".join(found))
    tables = sorted(p.read_bytes() for p in folder.rglob("per_*.csv"))
    if tables:
        line(f"tables {folder.name} ({len(tables)})", b"\n".join(tables))
for kind in ("panoptic", "overlays"):
    pictures = [p.name.encode() + p.read_bytes() for p in sorted((out / "predicted" / kind).glob("*.png"))]
    line(f"{kind} PNGs ({len(pictures)})", b"".join(pictures))
line("panoptic.json", (out / "predicted" / "panoptic.json").read_bytes())
PYTHON
