"""A folder of Hugging Face `datasets`: which of its files belong to which part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distill_core.builtin.datasets.shard_parts import (
    WORDS,
    by_role,
    check_complete,
    listed,
    role,
)
from distill_core.builtin.datasets.tree import FileTree
from distill_core.plugin import InputError, parse_json, shown

DICT, STATE = "dataset_dict.json", "state.json"


def parts_of(folder: FileTree) -> dict[str, list[str]]:
    """Files by their part, in their order.

    Raises:
        InputError: there are none, or one is missing.
    """
    if DICT in folder.files:
        splits = record_of(folder, DICT).get("splits")
        if not isinstance(splits, list) or not splits:
            raise damaged(folder.where(DICT), "names no splits")
        return _by_name({str(split): _saved(folder, f"{split}/") for split in splits}, folder)
    if STATE in folder.files:
        return {"": _saved(folder, "")}
    for ending in (".parquet", ".arrow"):
        found = [file for file in folder.files if file.endswith(ending)]
        if found:
            check_complete(found, folder.path)
            _check_one_kind(found, folder)
            return by_role(found)
    raise InputError(
        f"{folder.path} has no {DICT}, no {STATE}, and no .parquet or .arrow files.",
        expected="a folder of save_to_disk, or of .parquet files.",
        next="write it with `dataset.save_to_disk(FOLDER)`, or correct -o dataset.path=FOLDER.",
    )


def _by_name(splits: dict[str, list[str]], folder: FileTree) -> dict[str, list[str]]:
    """Splits by their part; one of another name keeps it."""
    parts = {WORDS.get(name.lower(), name): files for name, files in splits.items()}
    if len(parts) < len(splits):
        raise InputError(
            f"{folder.path} has two splits for one part by their names: {listed(splits)}.",
            expected="one each for training, test and validation.",
            next="save the dataset again without one of them.",
        )
    return parts


def _saved(folder: FileTree, start: str) -> list[str]:
    """The files of a split, as its state lists them."""
    state = record_of(folder, start + STATE)
    if any(state.get(name) for name in ("_indices_files", "_indices_data_files")):
        raise damaged(
            folder.where(start + STATE),
            "says that rows were chosen by a table of an early version of `datasets`",
        )
    try:
        files = [start + str(each["filename"]) for each in state["_data_files"]]
    except (KeyError, TypeError):
        raise damaged(folder.where(start + STATE), "does not list its files") from None
    for file in files:
        if file not in folder.files:
            raise InputError(
                f"{folder.where(start + STATE)} lists {shown(file)}, which is not there.",
                expected="all files of the dataset in their folder.",
                next="restore it, or save the dataset again.",
            )
    if not files or len(set(files)) < len(files):
        how = "lists a file twice" if files else "lists no files"
        raise damaged(folder.where(start + STATE), how)
    return files


def _check_one_kind(files: Sequence[str], folder: FileTree) -> None:
    """Refuse the files of several configurations, which lie in folders beside each other."""

    def configuration(file: str) -> str:
        return "/".join(step for step in file.split("/")[:-1] if not role(step))

    kinds = sorted({configuration(file) for file in files})
    if len(kinds) > 1:
        raise InputError(
            f"{folder.path} has tables in several folders: {', '.join(map(shown, kinds[:5]))}.",
            expected="the folder of one configuration of a dataset.",
            next=f"pass -o dataset.path={folder.where(kinds[-1])}, for example.",
        )


def record_of(folder: FileTree, file: str) -> dict[str, Any]:
    """Read a record that `datasets` has written beside its tables.

    Raises:
        InputError: it is missing or damaged.
    """
    if file not in folder.files:  # a split may be named "../other"
        raise damaged(folder.where(file), "is not there")
    data = folder.read(file)
    try:
        said = parse_json(data)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise damaged(folder.where(file), "is not as `datasets` writes it")
    return said


def damaged(what: str, how: str) -> InputError:
    """Return the error about a folder that `datasets` cannot have left so."""
    return InputError(
        f"{what} {how}.",
        expected="a folder that save_to_disk of `datasets` has written.",
        next="save the dataset again.",
    )
