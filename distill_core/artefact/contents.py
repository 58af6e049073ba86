"""What a run writes into its directory: every file and folder, by name.

`--overwrite` removes what is named here and nothing else, so a file that a run newly writes belongs
here.
"""

from __future__ import annotations

from distill_core.system.listing import Listing

CONFIG, METRICS, LOCK = "run.toml", "metrics.jsonl", ".lock"
MANIFEST = "manifest.json"
DISTILLED, WHITENING = "distilled.safetensors", "whitening.safetensors"
STORED = "stored.safetensors"  # in place of the first; see `result_file.py`
POSTER, POSTER_GRID, TIMELAPSE = "poster.png", "poster_grid.png", "poster.gif"
REPORT = "report.html"
CHECKPOINT, EVALUATION, SNAPSHOTS = "checkpoint", "evaluation", "snapshots"
STATE, PREVIOUS = "state.safetensors", "previous.safetensors"
INFO = "info.json"  # not of a run: what an export is
KEPT = ".previous"  # the last complete set, while its files are replaced
EVENTS = "events.out.tfevents.[0-9]*.*.[0-9]*"  # TensorBoard's: time, host, process

SET = (CONFIG, MANIFEST, DISTILLED, STORED, WHITENING, POSTER, POSTER_GRID)
RUN = Listing(
    files=(*SET, METRICS, LOCK, TIMELAPSE, REPORT, EVENTS),
    folders={
        CHECKPOINT: (STATE, PREVIOUS),
        EVALUATION: (f"*-{8 * '[0-9a-f]'}.json",),
        SNAPSHOTS: ("step_[0-9][0-9][0-9][0-9][0-9][0-9][0-9]*.png",),
        KEPT: SET,
    },
)
