"""``stage=panoptic``: trains the detector, with IBPP or without, and evaluates it."""

import math
import warnings
from dataclasses import asdict
from pathlib import Path

import pytorch_lightning as pl

from refine.callbacks.checkpoints import WholeCheckpoints
from refine.callbacks.evaluation_files import Pictures
from refine.callbacks.outlook import Outlook
from refine.config.instantiate import build_all, build_trainer
from refine.config.settings import TrainSettings
from refine.data.datamodule import PanopticDataModule
from refine.data.transforms import typical_size
from refine.detector.model_costs import cost_of
from refine.errors import RefineError
from refine.order.heads import needed_head
from refine.runs.checkpoint import check_categories, check_model, make_record, read_checkpoint
from refine.runs.console import say
from refine.runs.restore import build_pipeline
from refine.runs.run_folder import RunFolder
from refine.runs.transfer import start_from
from refine.training.detector_module import DetectorModule
from refine.weights.load import load_backbone_weights
from refine.weights.stored import pixel_buffers
from refine.workflows.final_evaluation import finish


def train_detector(settings: TrainSettings, resume: Path | None) -> dict[str, float | int]:
    """Train the detector, anew or from a checkpoint; ``metrics.json`` of the best checkpoint.

    Raises:
        RefineError: Bad data, settings, weights or checkpoint.
    """
    if needed_head(settings.fusion.relations) is not None:
        raise RefineError(
            f"fusion.relations.kind={settings.fusion.relations.kind} needs a head, which "
            "stage=panoptic does not train: add stage=all, or fusion.relations.kind=score"
        )
    pl.seed_everything(settings.seed, workers=True, verbose=False)
    datamodule = PanopticDataModule(
        settings.data, seed=settings.seed, val_targets=settings.validation_losses
    )
    datamodule.prepare_data()
    datamodule.setup("fit")
    if resume is not None:
        checkpoint = read_checkpoint(resume)
        checkpoint.require_training_state()
        check_categories(checkpoint, datamodule.categories, source=datamodule.source)
        check_model(checkpoint, asdict(settings.model))
    module = _build_module(settings, datamodule)
    # Lightning refuses a progress bar that is switched off
    left_out = () if settings.trainer.enable_progress_bar else ("progress",)
    callbacks = build_all(settings.callbacks, without=left_out)
    callbacks.append(Pictures(settings.run_dir, count=settings.draw))
    callbacks.append(_build_outlook(settings, datamodule))
    loggers = build_all(settings.logger)
    trainer = build_trainer(
        settings.trainer,
        callbacks=callbacks,
        loggers=loggers,
        plugins=[WholeCheckpoints()],
        folder=settings.run_dir,
    )
    if trainer.is_global_zero:
        RunFolder(settings.run_dir).write_config(settings.to_plain())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Found .* in eval mode")  # frozen stages
        trainer.fit(module, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    if not _is_evaluated(trainer, module):
        best = getattr(trainer.checkpoint_callback, "best_model_path", "") or None
        trainer.validate(
            module, datamodule=datamodule, ckpt_path=best, verbose=False, weights_only=True
        )
    return finish(trainer, module, datamodule, settings)


def _build_outlook(settings: TrainSettings, datamodule: PanopticDataModule) -> Outlook:
    dataset, categories = datamodule.train_dataset, datamodule.categories
    costs = cost_of(
        settings.model,
        typical_size(dataset.sizes, settings.data.image),
        anchors=settings.data.anchors,
        num_things=categories.num_things,
        num_categories=len(categories),
    )
    return Outlook(images=len(dataset), batch_size=settings.data.batch_size, costs=costs)


def choose_weights(settings: TrainSettings) -> str:
    """What ``weights=auto`` stands for: the experiment's own, but none on generated scenes."""
    if settings.weights != "auto":
        return settings.weights
    return "none" if settings.data.toy is not None else settings.pretrained


def _is_evaluated(trainer: pl.Trainer, module: DetectorModule) -> bool:
    """Whether the validation after the last step was the best: it need not be repeated."""
    best_score = getattr(trainer.checkpoint_callback, "best_model_score", None)
    if module.result is None or best_score is None or not module.is_final_evaluation:
        return False
    return module.result_step == trainer.global_step and math.isclose(
        float(best_score), module.result.metrics["pq"], rel_tol=1e-6
    )


def _build_module(settings: TrainSettings, datamodule: PanopticDataModule) -> DetectorModule:
    categories = datamodule.categories
    pipeline = build_pipeline(settings, categories=categories)
    weights = choose_weights(settings)
    network, backbone = pipeline.network, settings.model.backbone
    if weights == "none" and settings.data.toy is None:
        say("random weights: training on photographs usually starts from published ones (weights=)")
    if weights.endswith(".ckpt"):
        start = read_checkpoint(Path(weights))
        say(start_from(network, start, categories, options=backbone))
    else:
        stats = load_backbone_weights(network.backbone, weights, options=backbone)
        network.load_state_dict(pixel_buffers(stats), strict=False)
    batch_size = settings.data.batch_size * settings.trainer.accumulate_grad_batches
    return DetectorModule(
        pipeline,
        categories,
        optimizer=settings.optimizer.scaled_to(batch_size),
        schedule=settings.schedule,
        seed=settings.seed,
        record=make_record(settings.to_plain(), categories),
        compute_ap=settings.compute_ap,
    )
