"""Which folders of a tree are classes, and which are a training and a test part of them.

What has pictures and is not read is said: folders beside the parts, pictures beside the class
folders, files with endings that are not those of pictures.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import PurePosixPath
from typing import Literal

from distill_core.builtin.datasets.pictures import is_picture
from distill_core.builtin.datasets.tree import FileTree
from distill_core.plugin import InputError, check_class_names, shortened, shown

LAYOUT = "train/CLASS/* with test/CLASS/* or val/CLASS/*, or only CLASS/*, of image files."
ROLES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
}
SHOWN = 5  # names in a sentence
Classes = dict[str, list[str]]  # image files by class
Folders = Literal["auto", "classes"]  # what the folders at the top are


def unwrapped(tree: FileTree) -> FileTree:
    """Return the tree without the folders around it that hold only one other folder."""
    while len(folders := tree.top_folders()) == 1:
        tree = tree.inside(folders[0])
    return tree


def find_parts(tree: FileTree, folders: Folders = "auto") -> tuple[list[Classes], list[str]]:
    """Return files by class, of training and test part or of the one part, and what is left out.

    Args:
        tree: the folders, without those around them.
        folders: what those at the top are; "auto": what their names and contents say.

    Raises:
        InputError: the folders are none of the layouts; they are named.
    """
    roles = {} if folders == "classes" else _roles(tree)
    if not roles:
        classes = _training_classes(tree, "")
        return [classes], _left_out(tree, {"": classes})
    train, test, said = _chosen(tree, roles)
    parts = {f"{train}/": _training_classes(tree, f"{train}/")}
    if test:
        parts[f"{test}/"] = _test_classes(tree, train, test, parts[f"{train}/"])
    return list(parts.values()), [*said, *_left_out(tree, parts)]


def _roles(tree: FileTree) -> dict[str, list[str]]:
    """Folders by the part that their names speak of; empty if they are classes of such names.

    Raises:
        InputError: they can be either, since they have pictures in place of class folders.
    """
    folders = tree.top_folders()
    found: dict[str, list[str]] = {}
    for name in folders:
        if role := ROLES.get(name.lower()):
            found.setdefault(role, []).append(name)
    named = [name for names in found.values() for name in names]
    are_classes = bool(named) and all(_is_class(tree, name) for name in named)
    is_split = "train" in found and len(found) > 1
    if not are_classes:
        return found
    if len(named) < len(folders) and not is_split:
        return {}
    raise InputError(
        f"{tree.path} has the folders {' and '.join(named)} with pictures in them, and no class "
        "folders inside: these can be classes of such names, or parts that are not sorted.",
        expected=LAYOUT,
        next="-o dataset.folders=classes reads each folder as a class; if they are parts, sort "
        "their pictures into a folder for each class.",
    )


def _is_class(tree: FileTree, folder: str) -> bool:
    """Whether pictures lie in a folder itself, and in none of its folders."""
    inside = tree.inside(folder)
    return bool(_loose(inside)) and not _folders_with_pictures(inside)


def _chosen(tree: FileTree, roles: dict[str, list[str]]) -> tuple[str, str | None, list[str]]:
    """The training and the test folder; None where test images are to be held out; sentences."""
    for names in roles.values():
        if len(names) > 1:
            raise InputError(
                f"{tree.path} has {' and '.join(names)}, which both are one part by their names.",
                expected=LAYOUT,
                next="rename one of them, or move it away.",
            )
    train, test, val = (roles.get(role, [""])[0] for role in ("train", "test", "val"))
    if train and not (test or val) and _folders_with_pictures(tree) == [train]:
        return train, None, [f"{train}/ alone has images, so test images are held out of it."]
    if not train or not (test or val):
        raise InputError(
            f"{tree.path} has no folder {'test or val' if train else 'train'}, "
            f"but has: {', '.join(tree.top_folders())}.",
            expected=LAYOUT,
            next="add the folder, or point -o dataset.path to the folder of the classes; if these "
            "are classes, pass -o dataset.folders=classes.",
        )
    if not test:
        return (
            train,
            val,
            [
                f"{val}/ is the test part; -o dataset.folders=classes reads {train} and {val} as "
                "classes."
            ],
        )
    inside = tree.inside(test)
    known = _same_names(_folders_with_pictures(tree.inside(train)))
    if any(_plain(name) in known for name in _folders_with_pictures(inside)):
        return train, test, []
    why = f"{test}/ has no folder with images that is named as a class of {train}/"
    if val:
        return train, val, [f"{why}, so {val}/ is the test part."]
    if _loose(inside) and not _folders_with_pictures(inside):
        return train, None, [f"{why}, so test images are held out of {train}/."]
    return train, test, []  # which is refused, with the name of the folder


def _training_classes(tree: FileTree, start: str) -> Classes:
    """Image files of each class folder directly below `start`, which ends with a slash."""
    below, found = _below(tree, start)
    if len(found) < 2:
        loose = ", but pictures" if _loose(below) else ""
        raise InputError(
            f"{below.path} has {len(found)} class folder{'' if len(found) == 1 else 's'}{loose}.",
            expected=f"at least two, in the layout {LAYOUT}",
            next="check the path with -o dataset.path=..., or sort the images into folders.",
        )
    check_class_names(list(found), str(below.path))
    empty = [name for name, files in found.items() if not files]
    if empty:
        other = [file for file in below.inside(empty[0]).files if not is_picture(file)]
        others = f", but other files: {_endings(other)}" if other else ""
        raise InputError(
            f"the class folder {below.where(empty[0])} has no images{others}.",
            expected="at least one image file in every class folder.",
            next="add images, convert what is there to PNG or JPEG, or remove the folder.",
        )
    return found


def _test_classes(tree: FileTree, train: str, test: str, classes: Classes) -> Classes:
    """Likewise of the test part, where classes may be missing."""
    known = _same_names(classes)
    found: Classes = {}
    for name, files in _below(tree, f"{test}/")[1].items():
        if files and _plain(name) not in known:
            raise InputError(
                f"{tree.where(f'{test}/{name}')} is a class that {tree.where(train)} lacks.",
                expected="every class of the test part in the training part.",
                next="add training images of it, or remove the folder.",
            )
        if files:
            found.setdefault(name if name in classes else known[_plain(name)], []).extend(files)
    if not found:
        raise InputError(
            f"{tree.where(test)} has no class folder with images.",
            expected=LAYOUT,
            next="sort the test images into folders named as the classes.",
        )
    return found


def _below(tree: FileTree, start: str) -> tuple[FileTree, Classes]:
    below = tree.inside(start.rstrip("/")) if start else tree
    found: Classes = {name: [] for name in below.top_folders()}
    for file in below.files:
        name, slash, _ = file.partition("/")
        if slash and is_picture(file):
            found[name].append(start + file)
    return below, found


def _plain(name: str) -> str:
    """One form for names that look the same: macOS writes accents as characters of their own."""
    return unicodedata.normalize("NFC", name)


def _same_names(names: Collection[str]) -> dict[str, str]:
    return {_plain(name): name for name in names}


def _loose(tree: FileTree) -> list[str]:
    return [file for file in tree.files if "/" not in file and is_picture(file)]


def _folders_with_pictures(tree: FileTree) -> list[str]:
    return [name for name, files in _below(tree, "")[1].items() if files]


def _left_out(tree: FileTree, parts: dict[str, Classes]) -> list[str]:
    """Sentences about files that are not read, though somebody may think that they are."""
    read = {file for part in parts.values() for files in part.values() for file in files}
    left = [file for file in tree.files if file not in read]
    pictures = [file for file in left if is_picture(file)]
    starts = tuple(f"{start}{name}/" for start, part in parts.items() for name in part)
    others = [file for file in left if not is_picture(file) and file.startswith(starts)]
    said = []
    if pictures:
        places = _counts(pictures, _place)
        said.append(f"pictures beside the class folders are not read: {places}.")
    if others:
        said.append(
            f"files with other endings than a picture's are not read: {_endings(others)}; "
            f"the first is {shown(others[0])}."
        )
    around = {start.rstrip("/") for start in parts}
    hidden = [name for name in tree.hidden if name.rpartition("/")[0] in around]
    if hidden:
        said.append(
            "folders whose names begin with a dot are no classes and not read: "
            f"{shortened([*map(shown, hidden)], SHOWN)}."
        )
    return said


def _place(file: str) -> str:
    folder, slash, _ = file.partition("/")
    return f"in {folder}/" if slash else "in no folder"


def _endings(files: Collection[str]) -> str:
    return _counts(files, lambda file: PurePosixPath(file).suffix.lower() or "without ending")


def _counts(files: Collection[str], kind: Callable[[str], str]) -> str:
    """Say how many there are of each kind, the most frequent first: "5 .heic, 2 .txt"."""
    counts = Counter(map(kind, files)).most_common()
    said = shortened([f"{count:,} {shown(name)}" for name, count in counts], SHOWN)
    return f"{said} kinds" if len(counts) > SHOWN else said
