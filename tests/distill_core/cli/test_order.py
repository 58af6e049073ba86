"""`distill order`: printed, drawn, scored; and what it writes can be read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest
from PIL import Image

from distill_core.contracts.data import RealData
from tests.distill_core.cli.fakes import distill, process

DIGITS = ("order", "--dataset", "digits", "-o", "orderer.similarity=image")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_grid_is_printed_drawn_and_compared() -> None:
    result = distill(*DIGITS, "--orderer", "poco", "--compare", "qap", "--compare", "identity")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [len(line.split("\t")) for line in lines[:3]] == [6, 6, 6]
    names = [name.strip() for line in lines[1:3] for name in line.split("\t")[1:]]
    assert names[0] == "zero"
    assert len(set(names)) == 10
    assert "similarity: image" in lines
    table = [line.split("\t")[0].strip() for line in lines if line.count("\t") == 3]
    assert table[0] == "order"
    assert table.index("qap") < table.index("poco") < table.index("identity")
    with Image.open("order-digits-poco.png") as picture:
        assert picture.size[0] > picture.size[1] > 100
    rows = json.loads(Path("order-digits-poco.grid.json").read_text())
    assert [name for row in rows for name in row] == names


def test_dataset_and_orderer_come_from_a_preset_or_a_file() -> None:
    given = ("-o", "orderer.similarity=image", "--json")
    record = json.loads(distill("order", "--preset", "quick-digits", *given).stdout)
    assert (record["dataset"], record["orderer"]) == ("digits", "poco")
    Path("mine.toml").write_text('orderer = "identity"\nrepr = "images"\nsteps = 3\n')
    record = json.loads(distill("order", "--config", "mine.toml", "--json").stdout)
    assert (record["dataset"], record["orderer"]) == ("digits", "identity")
    both = distill("order", "--config", "mine.toml", "--preset", "quick-digits")
    assert both.exit_code == 2
    assert "were both given" in both.output


def test_it_says_what_it_has_written_and_where_and_keeps_an_edited_grid(tmp_path: Path) -> None:
    args = ("order", "--dataset", "digits", "--orderer", "identity")
    first = distill(*args)
    assert f"both are in {tmp_path}; --out PICTURE.png names another place" in first.output
    assert "the highest is best." in first.output
    grid = tmp_path / "order-digits-identity.grid.json"
    again = distill(*args)
    assert "another grid was there" not in again.output
    grid.write_text("[edited]")
    (line,) = [each for each in distill(*args).output.splitlines() if "another grid" in each]
    kept = line.split()[-2]
    assert (tmp_path / kept).read_text() == "[edited]"
    assert "edited" not in grid.read_text()
    told = distill(*args, "--out", str(tmp_path / "a.png"))
    assert "both are in" not in told.output
    assert sorted(path.name for path in tmp_path.glob("*.json")) == sorted(
        [grid.name, kept, "a.grid.json"]
    )


def test_it_says_which_pictures_are_not_read(tmp_path: Path) -> None:
    for place in ("a/1", "a/2", "b/1", "b/2", "beside"):
        file = tmp_path / "mine" / f"{place}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (ord(place[0]), 9, 9)).save(file)
    words = ("order", "--dataset", "imagefolder", "-o", "dataset.path=mine", "--orderer", "random")
    first = "data: pictures beside the class folders are not read:"
    told = distill(*words)
    assert told.stdout.startswith(first), told.output
    (note, *_) = json.loads(distill(*words, "--json").stdout)["data_notes"]
    assert told.stdout.splitlines()[0] == f"data: {note}"


def test_json_and_the_way_back_through_given() -> None:
    first = json.loads(distill(*DIGITS, "--orderer", "poco", "--grid", "5x2", "--json").stdout)
    assert first["grid_shape"] == [5, 2]
    again = distill("order", "--orderer", "given", "--grid", "5x2", "--json", "--out", "b.png",
                    "-o", f"orderer.file={first['grid_file']}")  # fmt: skip
    second = json.loads(again.stdout)
    assert second["class_grid"] == first["class_grid"]
    assert second["measured_by"] == "class-mean images"
    assert second["grid_file"] == "b.grid.json"
    by_image = second["scores"][0]
    assert by_image["score"] == by_image["on_images"] == first["scores"][0]["on_images"]


def test_the_order_is_the_one_a_run_would_make() -> None:
    from distill_core.config.discovery import discover
    from distill_core.config.run_config import resolve
    from distill_core.run.assemble import assemble

    settings = {"repr": "poster", "labeler": "poddl", "algo": "none", "orderer": "random"}
    plugins = discover()
    run = assemble(resolve({**settings, "seed": 7}, plugins), plugins)
    found = distill("order", "--orderer", "random", "-o", "run.seed=7", "--json")
    assert json.loads(found.stdout)["class_grid"] == run.placement.class_grid.tolist()


def test_compared_orderers_share_options_and_may_have_their_own(tmp_path: Path) -> None:
    table = numpy.random.default_rng(0).normal(size=(10, 4))
    numpy.savez(tmp_path / "e.npz", embeddings=table)
    found = json.loads(
        distill("order", "--orderer", "poco", "-o", "orderer.file=e.npz", "--json", "--compare",
                "poco:traversal=raster", "--compare", "qap", "--compare",
                "qap:similarity=image").stdout
    )  # fmt: skip
    scores = {each["order"]: each["score"] for each in found["scores"]}
    assert len(scores) == 6
    assert scores["qap"] >= scores["poco"]
    assert scores["qap"] > scores["qap:similarity=image"]
    assert scores["poco:traversal=raster"] != scores["poco"]


def test_a_prime_number_of_classes_is_remarked() -> None:
    shapes = ("order", "--dataset", "shapes", "--orderer", "identity", "-o", "dataset.size=8")
    assert "class grid: 5 is a prime number" in distill(*shapes, "-o", "dataset.classes=5").stdout
    assert "class grid:" not in distill(*shapes, "-o", "dataset.classes=6").stdout


@pytest.mark.parametrize("folder", ["a.png", "a.grid.json"])
def test_a_folder_in_the_place_of_either_file_is_refused_before_any_work(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(folder).mkdir()
    worked = "distill_core.commands.order.load_real"
    monkeypatch.setattr(worked, lambda *_: pytest.fail("data were read"))
    result = distill("order", "--dataset", "digits", "--orderer", "identity", "--out", "a.png")
    assert result.exit_code == 2
    assert f"{folder} is a folder." in result.stderr
    assert "another --out" in result.stderr
    assert [*Path.cwd().iterdir()] == [Path.cwd() / folder]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "nothing says which orderer"),
        (("--orderer", "pocco"), "Did you mean 'poco'?"),
        (("--orderer", "poco", "--compare", "quap"), "no orderer named 'quap'"),
        (("--orderer", "poco", "--compare", "qap:restart=2"), "Did you mean 'orderer.restarts'?"),
        (("--orderer", "poco", "--grid", "ten"), "ROWSxCOLS, for example 6x16"),
        (("--orderer", "poco", "--grid", "3x3"), "9 places for 10 classes"),
        (("--orderer", "poco", "--out", "a.jpg"), "ends in .png"),
        (("--orderer", "poco", "--out", "."), "pass --out order.png"),
        (("--orderer", "poco", "--out", ".."), "pass --out ../order.png"),
        (("--orderer", "poco", "-o", "repr.classes=5x2"), "--grid sets the class grid"),
        (("--orderer", "poco", "-o", "engine.path=auto"), "no effect on a class order"),
    ],
)
def test_mistakes_are_refused_and_nothing_is_written(
    arguments: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    result = distill("order", *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_network_is_trained_and_no_kernel_built(monkeypatch: pytest.MonkeyPatch) -> None:
    import distill_core.run.plan

    monkeypatch.setattr(distill_core.run.plan, "new_backbone", None)  # a call would fail
    assert distill(*DIGITS, "--orderer", "poco").exit_code == 0


def test_a_third_party_orderer(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from distill_core.cli import order
    from distill_core.config.discovery import discover
    from registry import Component
    from tests.distill_core.cli.fakes import with_hooks

    class Backwards:
        def __init__(self, options: object) -> None:
            pass

        def order(
            self, real: RealData, grid_shape: tuple[int, int], *, generator: torch.Generator
        ) -> torch.Tensor:
            return torch.arange(real.spec.num_classes).flip(0).reshape(grid_shape)

    def distill_orderers() -> list[Component]:
        return [Component("backwards", Backwards)]

    plugins = discover(extra=[("mine", with_hooks(distill_orderers))])
    monkeypatch.setattr(order, "discover", lambda: plugins)
    found = json.loads(distill("order", "--orderer", "backwards", "--json").stdout)
    assert found["class_grid"] == [[9, 8, 7, 6, 5], [4, 3, 2, 1, 0]]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from distill_core.cli import main; "
        "assert CliRunner().invoke(main, ['order', '--help']).exit_code == 0; "
        "sys.exit('torch' in sys.modules)"
    )
    assert process("-c", code).returncode == 0
