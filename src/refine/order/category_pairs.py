"""How often one category lies on top of another: the least that a learned order has to beat.

The head knows two labels and looks at nothing else. In the authors' earlier code it is mode
``stats``: i lies on top of j if it did in 75 % or more of the training pairs of their categories,
and the score decides otherwise. Here every frequency counts as a probability, as with an occlusion
network: ``relations.kind=occlusion`` follows the majority, however small, and ``soft_occlusion``
lets the scores overrule a weak one, with sigma in place of that limit.

Half an observation of each order is added to the counts (Krichevsky and Trofimov's estimate, which
is Jeffreys' prior): an order seen once is then 3 : 1 and not certain, the log odds stay finite, and
rare counts are smoothed less than by Laplace's whole observation.
"""

import torch
from torch import Tensor, nn

_PRIOR = 0.5


class CategoryPairHead(nn.Module):
    """An occlusion head of counts: it has no parameters, and nothing is trained.

    Attributes:
        counts: ``[num_things, num_things]`` int64: how often an instance of the first category lay
            on top of one of the second. Zeros until those of a training split are copied into it.
    """

    counts: Tensor

    def __init__(self, num_things: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros((num_things, num_things), dtype=torch.int64))

    def forward(
        self,
        features: Tensor | None,  # noqa: ARG002 - an occlusion head's signature
        masks: Tensor | None,  # noqa: ARG002
        labels: Tensor,
        pairs: Tensor,
    ) -> Tensor:
        """Logits of ordered pairs, ``[K]`` float32: the log odds of the smoothed frequency.

        They are antisymmetric, and 0 (no opinion) within a category and where both orders were seen
        equally often. Arguments as in :class:`~refine.order.occlusion_head.OcclusionHead`.
        """
        smoothed = (self.counts.float() + _PRIOR).log()
        first, second = labels[pairs].unbind(dim=1)
        return smoothed[first, second] - smoothed[second, first]
