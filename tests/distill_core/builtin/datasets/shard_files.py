"""Shards for the tests of datasets: folders as `datasets` saves them, and .tar files."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_core.contracts.components import Dataset
from distill_core.contracts.data import RawData
from distill_core.data.prepare import check_raw
from registry import InputError
from tests.distill_core.builtin.datasets.picture_files import png

NAMES = ("cat", "dog")
IMAGE = {"_type": "Image"}


def loaded(dataset: Dataset) -> RawData:
    """Return the images of a dataset, which keep the contract."""
    raw = dataset.load()
    check_raw(raw)
    return raw


def levels(images: torch.Tensor) -> list[int]:
    """Return the first number of each image: of grey pictures, which they are."""
    first: list[int] = images[:, 0, 0, 0].tolist()
    return first


def refusal_of(load: Callable[[], object], match: str) -> InputError:
    """Return the error of images that cannot be used, in one sentence."""
    with pytest.raises(InputError, match=match) as refused:
        load()
    assert "\n" not in refused.value.what
    return refused.value


def features(names: Sequence[str] | None = NAMES) -> dict[str, Any]:
    label = {"names": list(names), "_type": "ClassLabel"} if names else {"_type": "Value"}
    return {"image": IMAGE, "label": label}


def rows(count: int, start: int = 0) -> dict[str, list[Any]]:
    """Grey pictures `start`, `start` + 1, ... of two classes in turns."""
    images = [{"bytes": png(start + k), "path": None} for k in range(count)]
    return {"image": images, "label": [k % 2 for k in range(count)]}


def table(columns: Mapping[str, Sequence[Any]], said: Mapping[str, Any] | None = None) -> Any:
    """A table of pyarrow's, with what `datasets` says of its columns."""
    import pyarrow as pa

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    types = {"image": image, "other": image}
    made = pa.table({name: pa.array(values, types.get(name)) for name, values in columns.items()})
    text = json.dumps({"info": {"features": features() if said is None else said}})
    return made.replace_schema_metadata({"huggingface": text})


def stream(path: Path, content: Any, batch: int = 3) -> Path:
    """Write a table as `datasets` does, in groups of few rows."""
    import pyarrow as pa

    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, content.schema) as writer:
        writer.write_table(content, max_chunksize=batch)
    return path


def saved(folder: Path, *tables: Any, **state: Any) -> Path:
    """A folder of `Dataset.save_to_disk`, with a file for each table."""
    files = [f"data-{k:05}-of-{len(tables):05}.arrow" for k in range(len(tables))]
    for name, content in zip(files, tables, strict=True):
        stream(folder / name, content)
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": name} for name in files], **state})
    )
    (folder / "dataset_info.json").write_text(json.dumps({"features": features()}))
    return folder


def saved_dict(folder: Path, **splits: Any) -> Path:
    """A folder of `DatasetDict.save_to_disk`."""
    for name, content in splits.items():
        saved(folder / name, content)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))
    return folder


def parquet(path: Path, content: Any, group: int = 3) -> Path:
    from pyarrow import parquet as format

    path.parent.mkdir(parents=True, exist_ok=True)
    format.write_table(content, path, row_group_size=group)
    return path


def tar(path: Path, files: Mapping[str, bytes | str | tarfile.TarInfo]) -> Path:
    """A .tar of files; members that are none are given whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as made:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                made.addfile(content)
                continue
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return path


def items(count: int, start: int = 0, names: Sequence[str] | None = None) -> dict[str, bytes | str]:
    """Members of `count` items of two classes in turns, by number or by name."""
    made: dict[str, bytes | str] = {}
    for k in range(count):
        made[f"{start + k:04}.png"] = png(start + k)
        made[f"{start + k:04}.cls"] = names[k % 2] if names else str(k % 2)
    return made
