"""Batches of one image, found before any work: those that the settings tell, and one trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from distill_core.config.run_config import RunConfig
from distill_core.contracts.algorithm import Algorithm, Task
from distill_core.contracts.streams import Streams, seeded
from distill_core.contracts.synthetic import SyntheticDataset
from distill_core.evaluation.protocols import protocol
from distill_core.training.batch_of_one import is_of_one, of_one, takes_one
from registry.options import marked


def check_batches(
    config: RunConfig, synthetic: SyntheticDataset, task: Task, make: Callable[[], Algorithm]
) -> None:
    """Refuse a network that cannot be trained on one image where some batch has one.

    Nearly all networks can. For one that cannot, a trial step is done, too: an algorithm may take
    the images of one class, for example.

    Args:
        config: the settings.
        synthetic: need not have been reset.
        task: makes the networks.
        make: makes an algorithm for a trial, which may change its state.

    Raises:
        InputError: what has one image.
    """
    if takes_one(task.new_backbone(seeded(0)), synthetic.spec.image_shape):
        return
    algorithm = make()
    for of, size in _sizes(config, synthetic, algorithm):
        if size == 1:
            raise of_one(of)
    if algorithm.learns:
        try:
            algorithm.estimate(synthetic, rng=Streams(config.seed))
        except ValueError as error:
            if not is_of_one(error):
                raise
            raise of_one(f"a step of algorithm '{config.algo}'") from error


def _sizes(
    config: RunConfig, synthetic: SyntheticDataset, algorithm: Algorithm
) -> Iterator[tuple[str, int]]:
    """Yield what takes batches of synthetic images, and the least size of one."""
    count, options = len(synthetic), config.options["algo"]
    recipe = algorithm.recipe()
    judged = protocol(config.evaluate, recipe, num_items=count)
    yield "the training of judged networks", judged.images_of_a_step(count)
    for name, images in marked(options, "passes").items():
        size = getattr(options, name) or recipe.batch_size
        if images == "synthetic" and count > size:
            yield f"the last batch of a pass, by algo.{name} = {size}", count % size or size
