#!/usr/bin/env bash
# REFINE on generated scenes, part by part: baseline, control of IBPP, + IBPP, + SOE, + UE.
#     [SEED=0] [STEPS=260] [SCENES=N] [PICTURES=12] [OUT=runs/demo] scripts/demo.sh [KEY=VALUE ...]
# Trains Panoptic-FPN, REFINE, and REFINE with nothing crossing (the control of IBPP) side by side on
# the same scenes for as many steps, caches what two of them predict, evaluates each part from the
# cache, draws. SCENES makes a dataset of N scenes for training
# and N for validation, in OUT/toy. KEY=VALUE are settings of both trainings. Interrupted, the same
# command continues: finished jobs are kept, an interrupted training resumes.
source "$(dirname "$0")/steps.sh"
out=${OUT:-runs/demo}
scenes=(data=toy_demo) # version 2, with the hues of categories: learned in minutes
[ -z "${SCENES:-}" ] || scenes+=("data.root='$out/toy'" data.toy.{num_train,num_val}="$SCENES")
quiet=(trainer=cpu trainer.enable_progress_bar=false compute_ap=false)
two=(hydra/launcher=joblib hydra.launcher.n_jobs=2 hydra.launcher.batch_size=1) # at a time
last=checkpoints/last.ckpt

step "networks" "$python" -m refine.train -m experiment=toy_refine,toy_ibpp3_none,toy_ibpp0 "seed=${SEED:-0}" \
  "schedule.max_steps=${STEPS:-260}" "draw=${PICTURES:-12}" "${scenes[@]}" "${quiet[@]}" "${two[@]}" \
  "hydra.sweep.dir='$out/networks'" 'hydra.sweep.subdir=${hydra:runtime.choices.experiment}' "$@"
step "predictions of the baseline" "$python" -m refine.evaluate -m "${quiet[@]}" \
  "ckpt_path='$out/networks/toy_ibpp0/$last'" "save_predictions='$out/predictions/baseline'" \
  "hydra.sweep.dir='$out/saving'" hydra.sweep.subdir=baseline
step "predictions of REFINE" "$python" -m refine.evaluate -m "${quiet[@]}" \
  "ckpt_path='$out/networks/toy_refine/occlusion/$last'" \
  "save_predictions='$out/predictions/refine'" "hydra.sweep.dir='$out/saving'" hydra.sweep.subdir=refine
step "parts" "$python" -m refine.evaluate -m sweep=components "predictions='$out/predictions/refine'" \
  "baseline_predictions='$out/predictions/baseline'" "hydra.sweep.dir='$out/parts'"
step "table" "$python" -m refine.report "$out/parts" "$out/networks/toy_ibpp3_none" \
  --tables 3 --out "$out/table.md"
step "report" "$python" -m refine.report "$out" --out "$out/report.html"
printf '\n%s\npictures: %s\n' "$(cat "$out/table.md")" "$out/networks/toy_refine/pictures"
