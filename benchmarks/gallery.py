"""Turn a finished run into an entry of the gallery, and write docs/gallery.md from all entries.

    python benchmarks/gallery.py RUN NAME --title "..." [--note "..."] [--seed-run RUN ...]
    python benchmarks/gallery.py --page

The artefact is that of RUN, as small as it is: of decoders and stored types stored.safetensors,
whose images are decoded when it is loaded, and a compact whitening. Its accuracy is stated beside
those of the same run with other seeds, so that readers see a mean and not the best seed: choose
the seed of RUN before you look. Settings other than the seed must be the same. An entry above
700 kB is refused, since it is in every wheel.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from distill_core.artefact.artefact import load
from distill_core.artefact.contents import (
    CONFIG,
    DISTILLED,
    MANIFEST,
    POSTER,
    POSTER_GRID,
    STORED,
    WHITENING,
)
from distill_core.artefact.decoding import spec_of
from distill_core.artefact.gallery import (
    ENTRIES,
    FACTS,
    accuracy_text,
    entry_names,
    read_facts,
    with_source,
)
from distill_core.artefact.manifest import read_manifest
from distill_core.artefact.stored_file import CONTENT, STORED_FORMAT, is_stored, read_stored
from distill_core.config.discovery import discover
from distill_core.config.run_config import resolve
from distill_core.config.sources import sources_of
from distill_core.export.published import without_places, write_published
from distill_core.export.shared_whitening import whitening_text, write_whitening
from distill_core.run.directory import settings_of
from distill_core.run.plan import Plan
from distill_core.run.sizing import ipc_of
from distill_core.system.files import read_tensors, write_tensors
from registry import Plugins

ROOT = Path(__file__).parents[1]
PAGE, PICTURES = ROOT / "docs/gallery.md", ROOT / "docs/images"
MOST = 700_000  # bytes of an entry
LARGE, WIDTH, COLOURS = 150_000, 480, 128  # bytes of a picture, and what a larger one becomes
OF_MACHINE = ("seed", "out", "device", "procs", "threads")
INTRODUCTION = """\
# Gallery

Distilled sets that come with distill: nothing is downloaded and nothing has to be distilled. Each
takes a few kilobytes to a few hundred and trains a network in seconds. `distill list gallery` lists
them, `distill_core.load("gallery:NAME")` loads one, and `distill cite gallery:NAME` prints the
papers behind it. Test images have to go through its `transform` first
([Use the result](guide/use-the-result.md)). How the sets of CIFAR-10 were found is in
[Bytes against accuracy](bytes.md).

Accuracy is on the test set, of fresh networks trained on the set alone: the mean over seeds of the
distillation, each a mean over networks, with the standard deviation over seeds. The set itself is
that of one seed. `python benchmarks/gallery.py --page` makes this page from the facts that lie
beside each set.
"""
NOTHING = "There is no entry yet.\n"
USE = """\
```python
import distill_core
from torch import nn

distilled = distill_core.load("gallery:{first}")
images, labels = distilled.dataset.tensors  # whitened images (n, C, h, w), soft labels (n, K)
network = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), len(distilled.class_names)))
distilled.train(network)
```
"""


def make_entry(
    run: Path,
    name: str,
    title: str,
    others: list[Path],
    folder: Path = ENTRIES,
    *,
    note: str = "",
    dataset: str = "",
) -> dict[str, Any]:
    """Write an entry, or replace it, and return its facts.

    Args:
        run: whose result it is.
        name: of the entry.
        title: one line.
        others: runs that differ in their seed alone.
        folder: of all entries.
        note: what a reader of the accuracy should know.
        dataset: the component that names the source of the data; empty: the run's own.

    Raises:
        SystemExit: a run is unfinished, differs in more than its seed, or is too large.
    """
    plugins = discover()
    wanted = compared(run, plugins)
    manifests = {str(each): read_manifest(each) for each in (run, *others)}
    for each, manifest in manifests.items():
        if not manifest["results"]:
            raise SystemExit(f"{each} has not been judged.")
        if compared(Path(each), plugins) != wanted:
            raise SystemExit(f"{each} has other settings than {run}, apart from its seed.")
    if len({manifest["seed"] for manifest in manifests.values()}) < len(manifests):
        raise SystemExit("two of the runs have the same seed.")
    manifest = manifests[str(run)]
    target = folder / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        distilled = load(smallest(run, Path(scratch), plugins))
        distilled = write_whitening(distilled, target, exact=False)
        write_published(distilled, target)
    write_picture(run / POSTER_GRID if (run / POSTER_GRID).exists() else run / POSTER, target)
    backbone = manifest["components"]["backbone"]
    width = backbone["options"].get("width")
    components = manifest["components"]
    if dataset:
        components = with_source(components, dataset)
    facts = {
        "title": title,
        **({"note": note} if note else {}),
        "dataset": dataset or str(distilled.metadata["dataset"]),
        "budget": str(distilled.budget),
        "network": backbone.get("named", backbone["name"]) + (f" {width}" if width else ""),
        "seed": manifest["seed"],
        "seeds": {
            str(each["seed"]): {
                what: {"mean": found["mean"], "nets": len(found["accuracies"])}
                for what, found in each["results"].items()
            }["distilled"]
            for each in manifests.values()
        },
        "controls": {
            what: sum(each["results"][what]["mean"] for each in manifests.values()) / len(manifests)
            for what in ("random", "full")
            if all(what in each["results"] for each in manifests.values())
        },
        "bytes": distilled.storage.bytes,
        "whitening": whitening_text(distilled),
        "whitening_bytes": (target / WHITENING).stat().st_size,
        "file_bytes": (target / distilled.path.name).stat().st_size,
        "outer_steps": manifest["outer_steps"],
        "seconds": manifest["seconds"],
        "command": [without_places(list(words)) for words in manifest.get("commands", [])],
        "date": manifest["written"][:10],
        "sources": [work.title for each in sources_of(components, plugins) for work in each.works],
    }
    (target / FACTS).write_text(json.dumps(facts, indent=1) + "\n")
    if (size := sum(path.stat().st_size for path in target.iterdir())) > MOST:
        shutil.rmtree(target)
        raise SystemExit(f"{name} would take {size / 1e6:.1f} MB; at most {MOST / 1e6:g}.")
    return facts


def smallest(run: Path, scratch: Path, plugins: Plugins) -> Path:
    """Return the smallest file of a run that can be loaded.

    Args:
        run: as a run of this version left it, or one whose stored.safetensors has numbers alone.
        scratch: an empty folder.
        plugins: what is installed.
    """
    if not (run / STORED).exists():
        return run / DISTILLED
    tensors, about = read_stored(run / STORED)
    if is_stored(about):
        return run / STORED
    _, metadata = read_tensors(run / DISTILLED, ())
    plan = Plan.of(resolve(settings_of(run), plugins), plugins)
    spec = spec_of(metadata)
    kept = {name: each for name, each in metadata.items() if name not in ("how_to_load", "same")}
    small = {
        **kept,
        **{name: about[name] for name in ("types", "shapes", "class_grid")},
        "content": CONTENT,
        "format": STORED_FORMAT,
        "made_with": plan.made_with(spec, ipc_of(plan, spec)),
    }
    for name in (WHITENING, CONFIG):
        shutil.copyfile(run / name, scratch / name)
    manifest = read_manifest(run)
    manifest["files"][STORED] = write_tensors(scratch / STORED, tensors, small)
    (scratch / MANIFEST).write_text(json.dumps(manifest))
    return scratch / STORED


def write_picture(picture: Path, target: Path) -> None:
    """Copy a picture; a large one with fewer pixels and colours, since it is in every wheel."""
    if picture.stat().st_size <= LARGE:
        shutil.copyfile(picture, target / POSTER)
        return
    with Image.open(picture) as whole:
        height = round(whole.height * WIDTH / whole.width)
        small = whole.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)
    small.quantize(COLOURS).save(target / POSTER, optimize=True)


def compared(run: Path, plugins: Plugins) -> dict[str, Any]:
    """Return what two runs must have in common; a run that lacks a newer option has its default."""
    found = resolve(settings_of(run), plugins).model_dump(mode="json")
    return {key: value for key, value in found.items() if key not in OF_MACHINE}


def page(folder: Path = ENTRIES) -> str:
    """Return docs/gallery.md."""
    names = entry_names(folder)
    smallest = min(names, key=lambda name: read_facts(name, folder)["bytes"], default="")
    parts = [INTRODUCTION, USE.format(first=smallest) if names else NOTHING]
    parts += [section(name, folder) for name in names]
    return "\n".join(parts)


def section(name: str, folder: Path = ENTRIES) -> str:
    """Return the part of the page about one entry."""
    facts = read_facts(name, folder)
    said = {"random": "random real images of that budget", "full": "all training images"}
    steps = read_manifest(folder / name)["results"]["distilled"]["recipe"]["steps"]
    controls = [f"{said[what]}: {100 * mean:.1f} %" for what, mean in facts["controls"].items()]
    rows = [
        ("load", f'`distill_core.load("gallery:{name}")`'),
        ("accuracy", f"**{accuracy_text(facts)}**"),
        ("for comparison", "; ".join(controls)),
        ("note", facts.get("note", "")),
        ("network", f"{facts['network']}, trained for {steps:,} steps to be judged"),
        ("budget", facts["budget"]),
        (
            "bytes",
            f"{facts['bytes']:,} of what is stored; the file has {facts['file_bytes']:,}, "
            f"the whitening {facts['whitening_bytes']:,}",
        ),
        ("whitening", facts.get("whitening", "")),
        ("made by", "; ".join(f"`{shlex.join(words)}`" for words in facts["command"]) or "Python"),
        ("distilled in", f"{facts['outer_steps']} outer steps, {facts['seconds']:.0f} s"),
        ("seed of this set", str(facts["seed"])),
        ("date", facts["date"]),
        ("from", "; ".join(dict.fromkeys(facts["sources"]))),
    ]
    table = "\n".join(f"| {what} | {text} |" for what, text in rows if text)
    return (
        f"## {facts['title']}\n\n![{facts['title']}](images/gallery-{name}.png)\n\n"
        f"| | |\n|---|---|\n{table}\n"
    )


def write_page() -> None:
    """Write the page and its pictures."""
    for name in entry_names():
        shutil.copyfile(ENTRIES / name / POSTER, PICTURES / f"gallery-{name}.png")
    PAGE.write_text(page())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("name", nargs="?")
    parser.add_argument("--title")
    parser.add_argument("--note", default="", help="what a reader of the accuracy should know")
    parser.add_argument("--dataset", default="", help="what the data are, where they are a folder")
    parser.add_argument("--seed-run", type=Path, action="append", default=[])
    parser.add_argument("--page", action="store_true", help="write the page alone")
    given = parser.parse_args()
    if not given.page:
        if not (given.run and given.name and given.title):
            parser.error("RUN, NAME and --title, or --page")
        about = {"note": given.note, "dataset": given.dataset}
        make_entry(given.run, given.name, given.title, given.seed_run, **about)
    write_page()


if __name__ == "__main__":
    main()
