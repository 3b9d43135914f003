"""Iterative bi-directional prediction projection (the paper's first contribution)."""

from dataclasses import dataclass

from refine.options.checks import check, check_choice, check_fractions

DIRECTIONS = ("both", "sem_to_ins", "ins_to_sem")
CARRIES = ("both", "features", "predictions")


@dataclass(kw_only=True)
class IBPPOptions:
    """Iterations in which masks and semantic map read each other (eqs. 1 to 6).

    What does not cross is left out of the head's input; the head stays. So ``direction`` and
    ``carry`` compare networks of the same depth.

    Attributes:
        num_iterations: T; 0 is the plain baseline (one mask head, one semantic predictor).
        direction: ``both``, ``sem_to_ins`` (mask heads read the semantic branch; semantic heads
            read their feature alone) or ``ins_to_sem`` (the reverse).
        carry: What crosses: ``both``, ``features`` (F_sem is added to the mask heads' input;
            neither p_sem nor the canvas) or ``predictions`` (p_sem and the canvas, no F_sem).
        detach: No gradient through what crosses (the paper lets it through).
        project: p_sem is ``logits`` or ``softmax``.
        project_to_box: The box heads read F_sem and P_sem^(0), too.
        mask_rois: Training masks on the boxes a stage has just regressed (``interleaved``, as
            HTC) or on those it was given (``stage_input``).
        canvas_weight: Masks are weighted by ``score`` (training: probability of the true
            category) or ``none`` on the canvas.
        canvas_score_thresh: Detections below this score are not written to the canvas.
        canvas_reduce: Where masks of one category overlap: ``max`` or ``mean``.
        canvas_warmup_steps: Steps over which the canvas fades in at the start of training.
        refine_convs: 3x3 convolutions of a refined semantic head before its predictor.
        share_heads: One mask head and one refined semantic head for all iterations.
        mask_info_flow: Mask heads also read the features of the earlier ones (HTC).
        mask_ensemble: Final masks: of the ``last`` iteration, or the ``mean`` probability.
    """

    num_iterations: int = 0
    direction: str = "both"
    carry: str = "both"
    detach: bool = False
    project: str = "logits"
    project_to_box: bool = False
    mask_rois: str = "interleaved"
    canvas_weight: str = "score"
    canvas_score_thresh: float = 0.05
    canvas_reduce: str = "max"
    canvas_warmup_steps: int = 0
    refine_convs: int = 1
    share_heads: bool = False
    mask_info_flow: bool = False
    mask_ensemble: str = "last"

    def __post_init__(self) -> None:
        count = self.num_iterations
        check(count >= 0, "ibpp.num_iterations", count, "0 (off) or more")
        check_choice("ibpp.direction", self.direction, DIRECTIONS)
        check_choice("ibpp.carry", self.carry, CARRIES)
        check(
            (self.direction, self.carry) != ("ins_to_sem", "features"),
            "ibpp.direction",
            self.direction,
            "another direction with ibpp.carry=features: only predictions cross from instances "
            "to semantics, so nothing would cross",
        )
        check_choice("ibpp.project", self.project, ("logits", "softmax"))
        check_choice("ibpp.mask_rois", self.mask_rois, ("interleaved", "stage_input"))
        check_choice("ibpp.canvas_weight", self.canvas_weight, ("score", "none"))
        check_choice("ibpp.canvas_reduce", self.canvas_reduce, ("max", "mean"))
        check_choice("ibpp.mask_ensemble", self.mask_ensemble, ("last", "mean"))
        check_fractions(self, "canvas_score_thresh")
        steps = self.canvas_warmup_steps
        check(steps >= 0, "ibpp.canvas_warmup_steps", steps, "0 or more")
        check(self.refine_convs >= 0, "ibpp.refine_convs", self.refine_convs, "0 or more")

    @property
    def features_cross(self) -> bool:
        """F_sem is added to the mask heads' input."""
        return self.direction != "ins_to_sem" and self.carry != "predictions"

    @property
    def semantics_cross(self) -> bool:
        """p_sem is concatenated to the mask heads' input."""
        return self.direction != "ins_to_sem" and self.carry != "features"

    @property
    def canvas_crosses(self) -> bool:
        """The canvas is concatenated to the refined semantic heads' input."""
        return self.direction != "sem_to_ins" and self.carry != "features"
