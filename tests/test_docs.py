"""Every code block of the README and the documentation runs, or is checked as far as it can be.

A page is one story: its blocks are done from the top in one folder, which has the results that
pages speak of. Python is executed in one namespace, and a block that begins with `# NAME.py` or
`# NAME.toml` is that file, too. Commands of distill are given to the real command line. What takes
long is left out (`run`, `evaluate`, `sweep`) once everything that was asked for is checked.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from distill_core.artefact.artefact import load
from distill_core.cli import COMMANDS, main
from distill_core.cli import run as run_command
from distill_core.commands import evaluate as cross_evaluate
from distill_core.commands import preview, sweep_queue
from distill_core.commands import run as commands_run
from distill_core.commands import sweep_cells as sweep_run
from distill_core.commands.sweep import read_sweep
from distill_core.config.run_config import RunConfig, resolve
from distill_core.evaluation.scores import check_metrics
from registry import UnknownNameError
from tests.caches import make_cache
from tests.distill_core.small_run import installed, small_config
from tests.doc_blocks import ROOT, Block, blocks, pages

Names = dict[str, Any]
RESULTS = ("runs/NAME", "runs/first")  # what pages speak of as there already
NOT_RUN = {
    ("docs/engine.md", "a part of an algorithm's outer step"),
    ("docs/guide/clusters.md", "a job for Slurm"),
    ("docs/guide/data.md", "there are no such files here"),
    ("docs/guide/data.md", "there is no such place here"),
    ("docs/guide/order-classes.md", "needs CIFAR-100 and its embeddings"),
    ("docs/guide/share.md", "reads from the Hub"),
    ("docs/guide/share.md", "sends files to the Hub"),
    ("docs/guide/write-a-plugin.md", "a part of a component"),
    ("docs/paper.md", "downloads CIFAR-10"),
}
# Their runs are done in truth, in few steps, since they use what the page has made.
DONE = ("docs/guide/order-classes.md", "docs/guide/write-a-plugin.md")
OUTPUT = ("", "text")
DIRECTIVE = "{"  # the builder of the site reads these
EXTRAS = ("dev", "docs", "hf", "sweep")


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a fraction of a second, with pictures for a time-lapse."""
    folder = tmp_path_factory.mktemp("result") / "run"
    config = small_config(snapshots=2)
    commands_run.run(config, installed(), folder, resume=False, overwrite=False, quiet=True)
    return folder


@pytest.fixture
def names(result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Names:
    """What readers have of their own: a network, a picture, folders of pictures and results."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_CACHE", str(make_cache(tmp_path / "cache")))
    for name in RESULTS:
        shutil.copytree(result, name)
    picture = Image.new("RGB", (20, 20), (200, 10, 10))
    for folder in ("my_images", "my_test_images"):
        (tmp_path / folder / "a").mkdir(parents=True)
        picture.save(tmp_path / folder / "a" / "1.png")
    Image.fromarray(np.full((4, 4), 4095, np.uint16)).save(tmp_path / "scan.tif")
    return {"network": nn.Sequential(nn.Flatten(), nn.Linear(192, 6)), "picture": picture}


@pytest.mark.parametrize("page", [page for page in pages() if blocks(page)])
def test_the_page_is_true(
    page: str,
    names: Names,
    result: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(commands_run, "run", _shortened(commands_run.run))
    for block in blocks(page):
        if block.reason or block.language.startswith(DIRECTIVE):
            continue
        try:
            if block.file:
                _write(block)
            if block.language == "console":
                with monkeypatch.context() as patch:
                    if page not in DONE:
                        _leave_out_what_takes_long(patch, result)
                    for command in block.commands():
                        _do(command, monkeypatch)
            else:
                LANGUAGES[block.language](block, names)
        except BaseException as error:
            error.add_note(f"in the block at {page}:{block.line}")
            raise
    AFTERWARDS.get(page, lambda *_: None)(names, capsys.readouterr().out)


def test_what_is_not_run_is_known() -> None:
    marked = {(page, each.reason) for page in pages() for each in blocks(page) if each.reason}
    assert marked == NOT_RUN
    for page in pages():
        markers = (ROOT / page).read_text(encoding="utf-8").count("<!-- not run")
        assert markers == sum(each.reason is not None for each in blocks(page)), page


def test_every_block_is_of_a_known_language() -> None:
    for page in pages():
        fences = sum(line.startswith("```") for line in (ROOT / page).read_text().splitlines())
        assert fences == 2 * len(blocks(page)), page
        for each in blocks(page):
            known = each.language in LANGUAGES or each.language == "console"
            assert known or each.reason or each.language.startswith(DIRECTIVE), (page, each.line)


def _python(block: Block, names: Names) -> None:
    here = dict(names) if block.file else names
    exec(compile(block.text, f"{block.page}:{block.line}", "exec"), here)
    for name, value in list(here.items()):
        if block.file and name.startswith("test_"):
            value()


def _toml(block: Block, names: Names) -> None:
    settings = tomllib.loads(block.text)
    if "grid" in settings:
        text = block.text if "preset" in settings else f'preset = "quick-digits"\n{block.text}'
        Path("of_page.toml").write_text(text, encoding="utf-8")
        assert read_sweep(Path("of_page.toml"), Path("cells"), installed())
    elif settings.keys() <= RunConfig.model_fields.keys() | {"options"}:
        resolve(settings, installed())


def _json(block: Block, names: Names) -> None:
    json.loads(block.text)


def _output(block: Block, names: Names) -> None:
    code = ("$ ", "import ", *(f"distill {command}" for command in COMMANDS))
    for line in block.text.splitlines():
        assert not line.startswith(code), f"this is no output: {line}"


LANGUAGES: dict[str, Callable[[Block, Names], None]] = {
    "python": _python,
    "toml": _toml,
    "json": _json,
    **dict.fromkeys(OUTPUT, _output),
}


def _do(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do a command of distill; see that another one is of a known form."""
    match words:
        case ["distill", *arguments]:
            _distill(arguments)
        case ["torchrun", *_] if "distill_core" in words:
            _distill(words[words.index("distill_core") + 1 :])
        case ["python", "-m", "pip", "install", *what] | ["pip", "install", *what]:
            _install(what, monkeypatch)
        case ["python", "-m", "pytest", *_]:
            pass  # tests that a page writes were done when it wrote them
        case ["python", "-m", "sphinx", *_]:
            assert (ROOT / "docs" / "conf.py").exists()
        case ["python", script, *_]:
            assert (ROOT / script).exists(), f"there is no {script}"
        case ["cd", folder]:
            monkeypatch.chdir(folder)
        case _:
            raise AssertionError(f"no test knows the command {words[0]}")


def _distill(arguments: list[str]) -> None:
    if arguments[0] in ("doctor", "bench", "experts"):  # they only measure, or train
        command = main.get_command(click.Context(main), arguments[0])
        assert command is not None
        command.make_context(arguments[0], arguments[1:])
        return
    done = CliRunner().invoke(main, arguments, prog_name="distill")
    assert done.exit_code == 0, f"distill {' '.join(arguments)}\n{done.output}"
    print(done.stdout)


def _install(what: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Install this project in words, and a plugin of the page by what pip would leave of it."""
    if what[0] == "-r":
        assert (ROOT / what[1]).exists(), f"there is no {what[1]}"
        return
    target = next(each for each in what if not each.startswith("-"))
    name, _, extras = target.rstrip("]").partition("[")
    assert all(extra in EXTRAS for extra in extras.split(",") if extra), f"no extra {extras}"
    source = Path(name)
    if not (source / "pyproject.toml").exists():
        assert name in (".", "distill-podd", "torch"), f"there is nothing to install at {name}"
        return
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    folder = source / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [f"{name} = {module}" for name, module in project["entry-points"]["distill"].items()]
    (folder / "entry_points.txt").write_text("\n".join(["[distill]", *lines]))
    monkeypatch.syspath_prepend(str(source.absolute()))


def _write(block: Block) -> None:
    file = Path(str(block.file))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(block.text, encoding="utf-8")
    sys.modules.pop(file.stem, None)


def _leave_out_what_takes_long(patch: pytest.MonkeyPatch, result: Path) -> None:
    """Let commands stop when everything that was asked for is known to exist and to fit."""

    def run(config: RunConfig, plugins: object, run_dir: Path, **how: object) -> None:
        shutil.copytree(result, run_dir)

    def launch(arguments: object, number: int, *, run_dir: Path, **how: object) -> int:
        shutil.copytree(result, run_dir)
        return 0

    def judge(run: Path, configs: object, plugins: object, *, metrics: Any, **how: object) -> None:
        check_metrics(metrics)
        raise click.exceptions.Exit(0)

    def start(*arguments: object, **how: object) -> None:
        raise click.exceptions.Exit(0)

    patch.setattr(commands_run, "run", run)
    patch.setattr(preview, "preview", lambda config, plugins, processes: None)
    patch.setattr(run_command, "check_processes", lambda number, device: None)
    patch.setattr(run_command, "launch", launch)
    patch.setattr(cross_evaluate, "cross_evaluate", judge)
    patch.setattr(sweep_queue, "run_cells", start)
    patch.setattr(sweep_run, "submit_cells", start)


def _shortened(run: Callable[..., Any]) -> Callable[..., Any]:
    def short(config: RunConfig, *arguments: Any, **how: Any) -> Any:
        few = {"nets": min(config.evaluate.nets, 2), "steps": 5, "full_steps": 5}
        judged = config.evaluate.model_copy(update=few)
        brief = config.model_copy(update={"steps": 2, "evaluate": judged})
        return run(brief, *arguments, **how)

    return short


def _after_python(names: Names, printed: str) -> None:
    assert load("runs/mine").class_names[0] == "zero"
    assert names["result"].distilled.class_names == ("red", "green", "blue")
    assert issubclass(UnknownNameError, Exception)
    assert "Did you mean 'ratbptt'?" in printed


def _after_use_the_result(names: Names, printed: str) -> None:
    distilled = load("runs/NAME")
    assert printed.split(maxsplit=1)[0] in distilled.class_names
    assert torch.equal(names["images"], distilled.dataset.tensors[0])
    assert names["test"][0][0].shape == (3, 8, 8)
    assert torch.equal(torch.load("images.pt", weights_only=True), names["images"])


def _after_order_classes(names: Names, printed: str) -> None:
    shown = next(each for each in blocks("docs/guide/order-classes.md") if each.language == "text")
    assert shown.text in printed
    drawn = ROOT / "docs" / "images" / "order-digits.png"
    with Image.open("order-digits.png") as new, Image.open(drawn) as old:
        assert np.array_equal(np.asarray(new), np.asarray(old))


def _after_write_a_plugin(names: Names, printed: str) -> None:
    plain, chain, from_three = map(float, re.findall(r"score: ([\d.]+) on class-mean", printed))
    assert plain < chain < from_three


def _after_data(names: Names, printed: str) -> None:
    with Image.open("scan_bright.png") as picture:
        assert np.asarray(picture).min() == 65520


AFTERWARDS: dict[str, Callable[[Names, str], None]] = {
    "docs/guide/data.md": _after_data,
    "docs/guide/order-classes.md": _after_order_classes,
    "docs/guide/python.md": _after_python,
    "docs/guide/use-the-result.md": _after_use_the_result,
    "docs/guide/write-a-plugin.md": _after_write_a_plugin,
}
