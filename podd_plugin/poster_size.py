"""The arithmetic of posters: how large, how many patches, and where they start."""

from __future__ import annotations

from math import ceil, floor, inf, sqrt

from distill_core.plugin import InputError, points_of

DEFAULT_IPC = 0.9
ASPECT_TOLERANCE = 0.02
LEAST_PATCHES = 96
PATCHES_PER_IMAGE = 4
PATCHES_PER_SMALL_IMAGE = 1.2
PASSES = 30
# Of decoded canvases: pixels, in units of those that their numbers would make, and blocks on each
# side of a class cell.
AREAS = {"frequencies": 4.0, "bases": 4.0, "lowrank": 4.0, "gaussians": 16.0}
GAUSSIANS = 24  # of a patch, about as many as `gsdd` has
BLOCKS = {"frequencies": 1, "bases": 4}


def decoded_area(canvas: str, image_shape: tuple[int, ...]) -> float:
    """Return pixels of a decoded canvas, in units of those that its numbers would make.

    The larger the area, the fewer Gaussians are left for each patch. Where that would be fewer than
    images of `gsdd` have, as on small patches and those of one channel, the area is smaller.

    >>> decoded_area("gaussians", (3, 32, 32)), decoded_area("gaussians", (1, 8, 8))
    (16.0, 2.6666666666666665)
    """
    if canvas != "gaussians":
        return AREAS[canvas]
    channels, height, width = image_shape
    points = points_of((height, width), GAUSSIANS)
    most = channels * height * width / (points * (5 + channels))
    return min(AREAS[canvas], most)


def poster_size(budget: int, shape: tuple[int, int], patch_hw: tuple[int, int]) -> tuple[int, int]:
    """Choose height and width of a poster of at most `budget` pixels.

    Heights within 2 % of the ideal one are tried, each with the largest width that fits. Of
    those whose aspect ratio is within 2 % of the wanted one (or, where whole pixels are too
    coarse for that, as near as possible) the largest wins, then the nearest in aspect. A side
    that would be shorter than a patch is as long as a patch.

    Args:
        budget: pixels, all channels counting as one.
        shape: height and width with the wanted aspect ratio, in any unit.
        patch_hw: height and width of a patch, pixels.

    Raises:
        InputError: the budget is smaller than one patch.

    Source: the published sizes are typed in by hand and no rule gives all of them; this one
        keeps what they have in common (at most the budget, at least 99.6 % of it, aspect
        within 2 %).

    >>> poster_size(10 * 32 * 32, (2, 5), (32, 32))
    (64, 160)
    """
    h, w = patch_hw
    if budget < h * w:
        factor = ceil(100 * h * w / max(budget, 1)) / 100
        raise InputError(
            f"a poster of {budget} pixels is smaller than one patch of {h}x{w} = {h * w}.",
            expected="a budget of at least one image on every canvas.",
            next=f"raise --ipc to {factor:g} times what it is; 1 is always enough.",
        )
    ideal = sqrt(budget * shape[0] / shape[1])
    lowest = min(max(h, floor(ideal * (1 - ASPECT_TOLERANCE))), budget // w)
    highest = min(max(h, ceil(ideal * (1 + ASPECT_TOLERANCE))), budget // w)
    sizes = [(height, budget // height) for height in range(lowest, highest + 1)]

    def error(size: tuple[int, int]) -> float:
        ratio = size[0] * shape[1] / (size[1] * shape[0])
        return max(ratio, 1 / ratio) - 1

    allowed = max(ASPECT_TOLERANCE, min(map(error, sizes))) + 1e-9
    fitting = [size for size in sizes if error(size) <= allowed]
    return max(fitting, key=lambda size: (size[0] * size[1], -error(size)))


def patch_grid(
    shape: tuple[int, int],
    *,
    num_images: int,
    num_canvases: int,
    small: bool = False,
    item_draws: int | None = None,
    least: tuple[int, int] = (1, 1),
    most: tuple[float, float] = (inf, inf),
) -> tuple[int, int]:
    """Choose rows and columns of patches for each canvas.

    In all max(96, 4 * num_images) patches, as near as whole numbers allow, spread over the
    canvases in the aspect ratio of `shape`: the paper's 6x16 for a 2x5 class grid, 20x20 for
    10x10 and 20x40 for 10x20 (not its 30x60 for CUB-200). For small images 1.2 * num_images, which
    was best on 8x8 digits (docs/results-details.md). But no more than an inner loop sees 30 times
    each, and at least num_images: the published loops see each 37 times and more, and a shorter
    loop learns little of many patches (docs/paper.md).

    Args:
        shape: rows and columns with the aspect ratio of a canvas.
        num_images: images at the same budget: classes times images per class, at least one each.
        num_canvases: number of posters.
        small: images are below 28 pixels.
        item_draws: patches that an inner loop draws, counted with repeats; None: no such bound.
        least: how many it takes on each axis to reach from border to border.
        most: how many different places there are on each axis; never more patches than that.

    >>> patch_grid((2, 5), num_images=10, num_canvases=1)
    (6, 16)
    >>> patch_grid((10, 10), num_images=100, num_canvases=1, item_draws=60 * 50)
    (10, 10)
    """
    total: float = max(LEAST_PATCHES, PATCHES_PER_IMAGE * num_images)
    if small:
        total = PATCHES_PER_SMALL_IMAGE * num_images
    if item_draws is not None:
        total = min(total, max(num_images, item_draws / PASSES))
    total /= num_canvases
    rows = _within(sqrt(total * shape[0] / shape[1]), least[0], most[0])
    cols = _within(total / rows, least[1], most[1])
    return _within(total / cols, least[0], most[0]), cols


def even_starts(side: int, length: int, count: int) -> list[int]:
    """Place `count` stretches of `length` evenly on a side, from border to border.

    Returns:
        Starts, rounded half to even as in the published code; strides may differ by one.

    >>> even_starts(60, 32, 6)
    [0, 6, 11, 17, 22, 28]
    """
    gaps = max(count - 1, 1)
    return [round_half_even(i * (side - length), gaps) for i in range(count)]


def cyclic_starts(side: int, count: int) -> list[int]:
    """Place `count` starts evenly around a side whose ends are joined.

    >>> cyclic_starts(60, 4), cyclic_starts(2, 5)
    ([0, 15, 30, 45], [0, 0, 1, 1, 0])
    """
    # Of more starts than pixels the last ones are nearest to the end, which is the beginning.
    return [round_half_even(i * side, count) % side for i in range(count)]


def round_half_even(numerator: int, denominator: int) -> int:
    """Round a fraction to the nearest whole number, a half to the even one.

    >>> round_half_even(5, 2), round_half_even(7, 2)
    (2, 4)
    """
    whole, rest = divmod(numerator, denominator)  # a Fraction takes ten times as long
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1))


def _within(wanted: float, least: int, most: float) -> int:
    """Round to a whole number between `least` and `most`; the latter wins."""
    return int(min(max(least, round(wanted)), most))
