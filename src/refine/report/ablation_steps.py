"""The toy ablation as a list of commands, which ``scripts/ablation.py`` runs one by one."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refine.report.study import quote

SWEEPS = ("components", "relations", "soe_inputs", "sigma", "unknown_erasing")
"""Over cached predictions; choices of ``sweep=`` of ``refine.evaluate``."""

_SEED = "seed${seed}"  # Hydra fills it in, job by job
_LAST = (_SEED, "checkpoints", "last.ckpt")
_QUIET = ("trainer=cpu", "trainer.enable_progress_bar=false")


@dataclass(frozen=True, slots=True)
class Step:
    """One command.

    Attributes:
        title: What it does.
        command: Program and arguments.
    """

    title: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationSteps:
    """The commands of the toy ablation.

    Attributes:
        out: Folder of everything it makes.
        scripts: Folder of this project's scripts.
        num_seeds: Trainings of every network, with seeds from 0.
        num_jobs: Trainings at a time.
        overrides: Further overrides of every training.
    """

    out: Path
    scripts: Path
    num_seeds: int = 1
    num_jobs: int = 2
    overrides: Sequence[str] = ()

    @property
    def tables(self) -> dict[str, Path]:
        """The Markdown files that it ends with, by the title of their step."""
        titles = ("tables", "sigma chosen on one half", "threshold chosen on one half")
        names = ("tables.md", "sigma.md", "unknown_erasing.md")
        return {title: self.out / name for title, name in zip(titles, names, strict=True)}

    @property
    def report(self) -> Path:
        """The page that it ends with."""
        return self.out / "report.html"

    def list_steps(self) -> list[Step]:
        """All steps in their order; each needs what those before it made."""
        return [*self._train(), *self._predict(), *self._sweep(), *self._summarise()]

    def _train(self) -> list[Step]:
        # a process a training with its share of the cores: far more than one after the other
        parallel = (
            *("hydra/launcher=joblib", f"hydra.launcher.n_jobs={self.num_jobs}"),
            *("hydra.launcher.batch_size=1", *_QUIET, *self.overrides),
        )
        detector = f"detector_ckpt_path={self._place('networks', 'toy_ibpp3', *_LAST)}"
        return [
            self._multirun("networks", "train", "sweep=toy_ablation", *parallel),
            self._multirun("heads", "train", "sweep=toy_ablation_heads", detector, *parallel),
        ]

    def _predict(self) -> list[Step]:
        srm = self._place("heads", "ranking", *_LAST)
        sources = {
            "baseline": [f"ckpt_path={self._place('networks', 'toy_ibpp0', *_LAST)}"],
            "refine": [
                f"ckpt_path={self._place('heads', 'occlusion', *_LAST)}",
                f"ranking_ckpts={{srm: {srm}}}",
            ],
        }
        return [
            self._multirun(
                f"saving/{name}",
                "evaluate",
                *source,
                f"save_predictions={self._place('predictions', name, _SEED)}",
                f"hydra.sweep.subdir={_SEED}",
                *_QUIET,
            )
            for name, source in sources.items()
        ]

    def _sweep(self) -> list[Step]:
        caches = (
            f"predictions={self._place('predictions', 'refine', _SEED)}",
            f"baseline_predictions={self._place('predictions', 'baseline', _SEED)}",
            f"hydra.sweep.subdir={_SEED}/${{hydra.job.override_dirname}}",
        )
        return [self._multirun(name, "evaluate", f"sweep={name}", *caches) for name in SWEEPS]

    def _summarise(self) -> list[Step]:
        tables, sigma, threshold = self.tables.items()
        caches = [str(self.out / "predictions" / name / "seed0") for name in ("refine", "baseline")]
        return [
            self._script("ablation_table", tables, str(self.out), "--tables", *"3456"),
            self._compare("sigma", sigma, reference="strong_baseline", key="pq_things"),
            self._compare("unknown_erasing", threshold, reference="heuristic", key="pq_stuff"),
            self._script("figures", ("figures", self.out / "figures"), caches[0]),
            self._script(
                "report",
                ("report", self.report),
                *(str(self.out), "--predictions", caches[0], "--baseline-predictions", caches[1]),
            ),
        ]

    def _compare(self, sweep: str, output: tuple[str, Path], *, reference: str, key: str) -> Step:
        """Of seed 0: intervals are over the images of one training."""
        folder = self.out / sweep / "seed0"
        run = self.out / "relations" / "seed0" / f"fusion={reference},seed=0"
        return self._script(
            "compare_sweep", output, str(folder), "--reference", str(run), "--key", key
        )

    def _multirun(self, name: str, command: str, *overrides: str) -> Step:
        seeds = f"seed={','.join(map(str, range(self.num_seeds)))}"
        where = f"hydra.sweep.dir={self._place(name)}"
        program = (sys.executable, "-m", f"refine.{command}", "-m")
        return Step(name, (*program, seeds, where, *overrides))

    def _script(self, name: str, output: tuple[str, Path], *arguments: str) -> Step:
        title, path = output
        script = str(self.scripts / f"{name}.py")
        return Step(title, (sys.executable, script, *arguments, "--out", str(path)))

    def _place(self, *parts: str) -> str:
        return quote(self.out.joinpath(*parts))
