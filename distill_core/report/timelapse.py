"""The time-lapse: snapshots of a run as one animated picture."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill_core.artefact.contents import TIMELAPSE
from distill_core.run.observers import snapshots_of
from distill_core.system.files import write_atomically
from distill_core.system.plain_files import PICTURE, read_plain
from registry import InputError

if TYPE_CHECKING:
    from PIL import Image

FRAME_MS, LAST_MS, MIN_WIDTH = 150, 1500, 256
MOST_PIXELS = 2**29  # of all frames, enlarged: a byte of memory each


def animate(run_dir: Path) -> Path:
    """Write RUN/poster.gif from the snapshots of a run; return its path.

    Raises:
        InputError: there are no snapshots, one is not a picture, or they are too large.
    """
    paths = snapshots_of(run_dir)
    if not paths:
        raise InputError(
            f"{run_dir} has no snapshots.",
            expected="pictures that a run with --snapshots N saved.",
            next="distill with `distill run --snapshots 50`, for example.",
        )
    buffer = io.BytesIO()
    times = [FRAME_MS] * (len(paths) - 1) + [LAST_MS]
    frames = _frames(paths)  # one at a time
    first = next(frames)
    first.save(buffer, "GIF", save_all=True, append_images=frames, duration=times, loop=0)
    write_atomically(run_dir / TIMELAPSE, buffer.getvalue())
    return run_dir / TIMELAPSE


def _frames(paths: Sequence[Path]) -> Iterator[Image.Image]:
    """Yield the pictures, small ones enlarged.

    Raises:
        InputError: one is not a picture, or they have too many pixels.
    """
    from PIL import Image

    pixels = 0
    for path in paths:
        try:
            data = io.BytesIO(read_plain(path, PICTURE))
            with Image.open(data, formats=["PNG"]) as image:
                factor = max(1, -(-MIN_WIDTH // image.width))
                size = (image.width * factor, image.height * factor)
                pixels += size[0] * size[1]
                if pixels > MOST_PIXELS:
                    raise ValueError(f"with it, the pictures have {pixels:,} pixels when enlarged")
                picture = image.convert("RGB")
        except InputError:
            raise
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(
                f"{path} cannot be read: {error}.",
                expected=f"a PNG that the run saved, {MOST_PIXELS:,} pixels for all.",
                next="delete it; the time-lapse is then made of the others.",
            ) from None
        yield picture.resize(size, Image.Resampling.NEAREST)
