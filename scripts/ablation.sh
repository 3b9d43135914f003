#!/usr/bin/env bash
# The whole toy ablation: trainings, predictions, sweeps, the paper's tables 3 to 6, one report.
#     [SEEDS=1] [JOBS=2] [STEPS=N] [SCENES=N] [OUT=runs/ablation] scripts/ablation.sh [KEY=VALUE ...]
# SEEDS trainings of every network, with seeds from 0, JOBS of them at a time. STEPS is the length of
# every training (default: 800 of the networks, 400 and 300 of the heads); SCENES makes a dataset of N
# scenes for training and N for validation, in OUT/toy. KEY=VALUE are settings of every training.
# After an interruption run it again: finished jobs are kept, an interrupted training resumes.
source "$(dirname "$0")/steps.sh"
out=${OUT:-runs/ablation}
scenes=(data=toy_ablation)
[ -z "${SCENES:-}" ] || scenes+=("data.root='$out/toy'" data.toy.{num_train,num_val}="$SCENES")
length=()
[ -z "${STEPS:-}" ] || length=({,occlusion.,ranking.}schedule.max_steps="$STEPS")
seeds=seed=$(seq -s, 0 $((${SEEDS:-1} - 1)))
quiet=(trainer=cpu trainer.enable_progress_bar=false)
# a process for each training with its share of the cores: far quicker than one after the other
parallel=(hydra/launcher=joblib "hydra.launcher.n_jobs=${JOBS:-2}" hydra.launcher.batch_size=1)
train=("$python" -m refine.train -m "$seeds" "${scenes[@]}" "${length[@]}" "${quiet[@]}" "${parallel[@]}")
evaluate=("$python" -m refine.evaluate -m "$seeds")
last='seed${seed}/checkpoints/last.ckpt' # Hydra fills in the seed, job by job

step "networks" "${train[@]}" "hydra.sweep.dir='$out/networks'" sweep=toy_ablation "$@"
step "heads" "${train[@]}" "hydra.sweep.dir='$out/heads'" sweep=toy_ablation_heads \
  "detector_ckpt_path='$out/networks/toy_ibpp3/$last'" "$@"
step "predictions of the baseline" "${evaluate[@]}" "hydra.sweep.dir='$out/saving/baseline'" \
  'hydra.sweep.subdir=seed${seed}' "ckpt_path='$out/networks/toy_ibpp0/$last'" \
  "save_predictions='$out/predictions/baseline/seed\${seed}'" "${quiet[@]}"
step "predictions of REFINE" "${evaluate[@]}" "hydra.sweep.dir='$out/saving/refine'" \
  'hydra.sweep.subdir=seed${seed}' "ckpt_path='$out/heads/occlusion/$last'" \
  "ranking_ckpts={srm: '$out/heads/ranking/$last'}" \
  "save_predictions='$out/predictions/refine/seed\${seed}'" "${quiet[@]}"
for sweep in components relations soe_inputs sigma unknown_erasing; do
  step "$sweep" "${evaluate[@]}" "hydra.sweep.dir='$out/$sweep'" "sweep=$sweep" \
    'hydra.sweep.subdir=seed${seed}/${hydra.sweeper.job}' \
    "predictions='$out/predictions/refine/seed\${seed}'" \
    "baseline_predictions='$out/predictions/baseline/seed\${seed}'"
done

# intervals of a choice are over the images of one training: seed 0
step "tables" "$python" -m refine.report "$out" --tables 3 4 5 6 --out "$out/tables.md"
step "sigma chosen on one half" "$python" scripts/compare_sweep.py "$out/sigma/seed0" --key pq_things \
  --reference "$out"/relations/seed0/strong_baseline+* --out "$out/sigma.md"
step "threshold chosen on one half" "$python" scripts/compare_sweep.py "$out/unknown_erasing/seed0" \
  --key pq_stuff --reference "$out"/relations/seed0/heuristic+* \
  --out "$out/unknown_erasing.md"
step "figures" "$python" -m refine.report --predictions "$out/predictions/refine/seed0" \
  --figures "$out/figures"
step "report" "$python" -m refine.report "$out" --predictions "$out/predictions/refine/seed0" \
  --baseline-predictions "$out/predictions/baseline/seed0" --out "$out/report.html"
for table in tables sigma unknown_erasing; do
  printf '\n# %s\n\n%s\n' "$table" "$(cat "$out/$table.md")"
done
printf '\nreport: %s; %d minutes\n' "$out/report.html" $((SECONDS / 60))
