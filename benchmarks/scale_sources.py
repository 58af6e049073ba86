"""Preparing the same pictures from a folder, a zip, arrow tables and tars: first and second start.

Called by `scale.py --only sources`. Made are pictures of `--size` pixels of 10 classes,
`--pictures` as PNG and as many as JPEG, in every kind of source. Rates are bytes of decoded images
(3 h w each) by seconds of the start without imports; each start is a fresh process of one thread,
with its images on the disk. What is read lies in the page cache, since it was just written.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scale_child import asked

CLASSES, TESTED = 10, 10  # every tenth picture is for testing
ROWS = 1000  # of a table or a tar
KINDS = {"folder": "imagefolder", "zip": "imagefolder", "arrow": "hf", "tar": "webdataset"}
FORMATS: dict[str, dict[str, Any]] = {"png": {}, "jpeg": {"quality": 90}}


def compare(given: argparse.Namespace) -> None:
    """Print a line for each format, kind of source, and start."""
    for format in FORMATS:
        files = dict(_pictures(format, given))
        for kind, dataset in KINDS.items():
            place = given.folder / "sources" / f"{kind}-{format}"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            path = MAKERS[kind](place, files)
            cache = place / "cache"
            for start in ("first", "second"):
                found = asked(__file__, {"dataset": dataset, "path": str(path)}, cache)
                said = {"part": "sources", "format": format, "kind": kind, "start": start}
                print(json.dumps({**said, "pictures": len(files), **found}), flush=True)
            shutil.rmtree(place)


def _pictures(format: str, given: argparse.Namespace) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of pictures: smooth colours with a little noise, as photographs have."""
    from PIL import Image

    numbers = np.random.default_rng(0)
    side, coarse = given.size, max(given.size // 8, 1)
    for k in range(given.pictures):
        small = Image.fromarray(numbers.integers(0, 256, (coarse, coarse, 3), dtype=np.uint8))
        smooth = np.array(small.resize((side, side), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = smooth + numbers.integers(-8, 9, smooth.shape, dtype=np.int16)
        buffer = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, format, **FORMATS[format])
        part = "test" if k // CLASSES % TESTED == 0 else "train"
        yield f"{part}/{k % CLASSES}/{k:06}.{format}", buffer.getvalue()


def _folder(place: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        path = place / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return place / "pictures"


def _zip(place: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(place / "pictures.zip", "w") as made:
        for name, data in files.items():
            made.writestr(name, data)
    return place / "pictures.zip"


def _arrow(place: Path, files: Mapping[str, bytes]) -> Path:
    """As `datasets` saves them: .parquet files are another matter, and are not measured."""
    import pyarrow as pa

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    folder = place / "pictures"
    for part in ("train", "test"):
        names = [name for name in files if name.startswith(part)]
        (folder / part).mkdir(parents=True)
        shards = [names[k : k + ROWS] for k in range(0, len(names), ROWS)]
        written = [f"data-{k:05}-of-{len(shards):05}.arrow" for k in range(len(shards))]
        for shard, file in zip(shards, written, strict=True):
            images = [{"bytes": files[name], "path": None} for name in shard]
            labels = [int(name.split("/")[1]) for name in shard]
            made = pa.table({"image": pa.array(images, image), "label": labels})
            with (
                pa.OSFile(str(folder / part / file), "wb") as out,
                pa.ipc.new_stream(out, made.schema) as writer,
            ):
                writer.write_table(made, max_chunksize=100)
        state = {"_data_files": [{"filename": file} for file in written]}
        (folder / part / "state.json").write_text(json.dumps(state))
        said = {"image": {"_type": "Image"}, "label": {"_type": "Value"}}
        (folder / part / "dataset_info.json").write_text(json.dumps({"features": said}))
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    return folder


def _tar(place: Path, files: Mapping[str, bytes]) -> Path:
    folder = place / "pictures"
    folder.mkdir()
    for part in ("train", "test"):
        names = [name for name in files if name.startswith(part)]
        for k in range(0, len(names), ROWS):
            with tarfile.open(folder / f"{part}-{k // ROWS:06}.tar", "w") as made:
                for name in names[k : k + ROWS]:
                    _, label, file = name.split("/")
                    _add(made, file, files[name])
                    _add(made, f"{Path(file).stem}.cls", label.encode())
    return folder


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


MAKERS = {"folder": _folder, "zip": _zip, "arrow": _arrow, "tar": _tar}


def _child(said: Mapping[str, str]) -> None:
    """Read the real data as a run does, and print what that took."""
    from distill_core.config.discovery import discover
    from distill_core.config.run_config import resolve
    from distill_core.run.assemble import load_real

    plugins = discover()
    settings = {
        **{"repr": "images", "labeler": "onehot", "orderer": "identity", "algo": "none"},
        **{"dataset": said["dataset"], "data": {"storage": "memmap", "validation": 0}},
        "options": {"dataset": {"path": said["path"]}},
    }
    config = resolve(settings, plugins)
    begin, used = time.perf_counter(), time.process_time()
    real = load_real(config, plugins)
    seconds, spent = time.perf_counter() - begin, time.process_time() - used
    c, h, w = real.spec.image_shape
    size = c * h * w * (len(real.train) + len(real.test)) / 1e6
    found = {"megabytes": size, "seconds": seconds, "processor": spent}
    found |= {"mb_in_a_second": size / seconds, "mb_in_a_processor_second": size / spent}
    print(json.dumps({name: round(value, 2) for name, value in found.items()}))


if __name__ == "__main__":
    _child(json.loads(sys.argv[1]))
