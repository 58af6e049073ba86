"""Labeler `teacher`: soft labels that a network trained on the real data gave at the start.

TESLA's Soft Label Assignment with one teacher for the whole run. The published code assigns anew
in each outer step, from the expert that was drawn, and evaluates with the labels of whichever was
last.
Source: Cui et al. 2023 (arXiv:2211.10586), Soft Label Assignment.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from distill_core.builtin.labelers.options import TeacherOptions
from distill_core.plugin import (
    Boxes,
    ExpertRecipe,
    Experts,
    Labeler,
    Placement,
    RealData,
    check_items,
    majority_labels,
    rows_by_coverage,
    to_device,
)


class Teacher(Labeler):
    """One row of K numbers for each item, fixed: the softmax of a teacher's logits.

    The teacher is expert 0 of the run's backbone and seed, which trajectory matching may share.
    It sees the images that the run starts with, once; a run that goes on has the rows.

    Args:
        options: the teacher's training.
        placement: where items and classes are.
    """

    rows: Tensor

    def __init__(self, options: TeacherOptions, *, placement: Placement) -> None:
        super().__init__()
        self.options = options
        # Before `start`: the classes of the place, for a prediction of the cost.
        rows = rows_by_coverage(
            placement.layout.items,
            placement,
            lambda coverage: majority_labels(coverage).float(),
        )
        self.register_buffer("rows", rows)

    def start(
        self,
        images: Tensor,
        *,
        real: RealData,
        experts: Experts,
        tell: Callable[[str], None],
    ) -> None:
        """Train the teacher, unless it is in the cache, and keep its labels."""
        epochs = self.options.epochs
        recipe = ExpertRecipe(**self.options.recipe(min(real.spec.image_shape[1:])))
        labels = experts.logits(recipe, 0, epochs, images, tell=tell).softmax(1)
        agree = self.rows.gather(1, labels.argmax(1, keepdim=True)) > 0
        self.rows.copy_(labels)
        tell(
            f"labels   by a teacher of {epochs} epochs, which sees the class of its place in "
            f"{100 * float(agree.float().mean()):.0f} % of the starting images; it is meant for "
            "real ones (-o repr.init=real)"
        )

    def labels(self, boxes: Boxes, images: Tensor) -> Tensor:
        """Return the soft labels (n, K) of items.

        Raises:
            InputError: a box is not an item, so it has no row.
        """
        check_items(boxes, labeler="teacher")
        return self.rows[to_device(boxes.item, self.rows.device)].to(images)
