"""The time-lapse: snapshots of a run as one animated picture."""

from __future__ import annotations

import io
from pathlib import Path

from distill_core.run.observers import snapshots_of
from distill_core.system.files import write_atomically
from registry import InputError

TIMELAPSE = "poster.gif"
FRAME_MS, LAST_MS, MIN_WIDTH = 150, 1500, 256


def animate(run_dir: Path) -> Path:
    """Write RUN/poster.gif from the snapshots of a run; return its path.

    Raises:
        InputError: there are no snapshots, or one is not a picture.
    """
    from PIL import Image

    paths = snapshots_of(run_dir)
    if not paths:
        raise InputError(
            f"{run_dir} has no snapshots.",
            expected="pictures that a run with --snapshots N saved.",
            next="distill with `distill run --snapshots 50`, for example.",
        )
    frames = []
    for path in paths:
        try:
            with Image.open(path, formats=["PNG"]) as image:
                picture = image.convert("RGB")
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(
                f"{path} cannot be read: {error}.",
                expected="a PNG that the run saved.",
                next="delete it; the time-lapse is then made of the others.",
            ) from None
        factor = max(1, -(-MIN_WIDTH // picture.width))
        size = (picture.width * factor, picture.height * factor)
        frames.append(picture.resize(size, Image.Resampling.NEAREST))
    buffer = io.BytesIO()
    times = [FRAME_MS] * (len(frames) - 1) + [LAST_MS]
    first, *others = frames
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=times, loop=0)
    write_atomically(run_dir / TIMELAPSE, buffer.getvalue())
    return run_dir / TIMELAPSE
