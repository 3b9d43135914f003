"""Images with ordered pairs of instances, as the second training stage asks for them."""

from collections.abc import Sequence

import numpy as np

from refine.coco_format.layout import DatasetFiles, annotations_folder, open_split
from refine.data.coco_panoptic import CocoPanopticDataset
from refine.data.datamodule import ResumableDataModule
from refine.data.pairs.occlusion_pairs import OcclusionPairs
from refine.data.pairs.pair_building import require_instances
from refine.data.pairs.pair_cache import ensure_pairs, pairs_path
from refine.errors import RefineError
from refine.options import DataOptions


class OcclusionDataModule(ResumableDataModule):
    """The images of a dataset in which instances overlap, with who lies on top of whom.

    Every batch has training targets with ``pairs``; a target may have none, because a crop can cut
    off one of every pair. Evaluation batches have the geometry of evaluation. The options'
    ``batch_size`` has no say.
    """

    def __init__(self, options: DataOptions, *, seed: int, batch_size: int) -> None:
        super().__init__(options, seed=seed, batch_size=batch_size, val_batch_size=batch_size)
        self._found: dict[str, tuple[DatasetFiles, OcclusionPairs]] = {}

    def prepare_data(self) -> None:
        """Generate the toy dataset if asked for, and find the pairs of both splits.

        Raises:
            RefineError: The dataset or the pairs cannot be used or written.
        """
        super().prepare_data()
        for split in (self.options.train_split, self.options.val_split):
            self._find_pairs(split)

    def _find_pairs(self, split: str) -> tuple[DatasetFiles, OcclusionPairs]:
        if split not in self._found:
            options = self.options.occlusion_pairs
            files = open_split(self.options, split)
            path = pairs_path(annotations_folder(self.options, split), split, options)
            pairs = ensure_pairs(files, path, options, num_processes=self.options.num_workers)
            files = files.choose(self.options.categories)
            self._found[split] = files, pairs.of_instances(require_instances(files))
        return self._found[split]

    def _dataset(
        self, split: str, image_ids: Sequence[int] | None, *, is_train: bool
    ) -> CocoPanopticDataset:
        files, pairs = self._find_pairs(split)
        # the dataset checks the ids before those without a pair are left out
        every = CocoPanopticDataset(files, self.options.image, training=True, image_ids=image_ids)
        pairs = pairs.of_images(every.image_ids)
        if not len(pairs):
            thresh = self.options.occlusion_pairs.overlap_thresh
            raise RefineError(
                f"{files.annotations.source}: no two instances overlap by "
                f"data.occlusion_pairs.overlap_thresh={thresh} in any image; lower "
                "it, or take more images"
            )
        with_pairs = set(pairs.image_ids.tolist())
        return CocoPanopticDataset(
            files,
            self.options.image,
            training=True,
            augment=is_train,
            seed=self.seed,
            image_ids=[i for i in every.image_ids if i in with_pairs],
            pairs=pairs,
        )

    @property
    def train_pairs(self) -> np.ndarray:
        """``[num_things, num_things]`` int64: training pairs, row's category on column's."""
        files, pairs = self.train_dataset.files, self.train_dataset.pairs
        if pairs is None:
            raise ValueError("the training split has no pairs")
        return pairs.count_categories(require_instances(files), self.categories.num_things)
