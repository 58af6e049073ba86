"""The generated reference has every command, option, component, hook and public name."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import click
import pytest

from distill_core import hookspecs, plugin
from distill_core.cli import COMMANDS, main
from distill_core.config.describe import settings_rows
from distill_core.config.discovery import discover
from distill_core.config.settings import settings_models
from distill_core.contracts.recipes import Recipe
from docs._extensions import links
from docs._extensions.api_pages import MODULES, api_pages, public_names
from docs._extensions.cli_page import cli_page
from docs._extensions.component_pages import component_pages, settings_page
from docs._extensions.hooks_page import hooks_page
from registry import Options

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_and_each_of_its_options_is_in_the_reference(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    _, _, section = cli_page(main).partition(f"## distill {name}\n")
    section = section.partition("\n## ")[0]
    assert section
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert all(f"{option}" in section for option in parameter.opts)
            assert parameter.help
            assert parameter.help in section


@pytest.mark.parametrize("kind", hookspecs.KINDS, ids=lambda kind: kind.name)
def test_a_component_and_each_of_its_options_is_in_the_reference(kind: hookspecs.Kind) -> None:
    catalogue = discover()[kind.name]
    page = component_pages(discover())[kind.name]
    for name in catalogue.names():
        _, _, section = page.partition(f"\n## {name}\n")
        section = section.partition("\n## ")[0]
        assert section
        for option in catalogue[name].resolve_options().model_fields:
            assert f"\n`{kind.option}.{option}`\n: " in section


def test_every_setting_of_the_core_is_in_the_reference() -> None:
    page = settings_page()
    for name, model in settings_models().items():
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        rows = settings_rows(name, model)
        assert rows
        assert all(f"\n`{row[0]}`\n: " in section for row in rows)


def test_every_hook_is_in_the_reference() -> None:
    page = hooks_page()
    specified = [name for name in vars(hookspecs) if name.startswith("distill_")]
    assert len(specified) == len(hookspecs.KINDS) + 1
    for name in specified:
        assert f"## {name}\n" in page


@pytest.mark.parametrize("page", MODULES)
def test_every_public_name_is_in_the_reference(page: str) -> None:
    module = importlib.import_module(MODULES[page][0])
    text = api_pages()[page]
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert f":: {value.__module__}.{name}\n" in text
        else:
            assert f"``{MODULES[page][0]}.{name}``" in text


def test_the_fields_of_every_public_model_are_in_the_reference() -> None:
    models = [
        (page, value)
        for page, (module, _) in MODULES.items()
        for value in public_names(module).values()
        if isinstance(value, type) and issubclass(value, Options) and value.model_fields
    ]
    assert Recipe in [value for _, value in models]
    for page, value in models:
        section = api_pages()[page].partition(f"Fields of ``{value.__name__}``:\n")[2]
        for name, field in value.model_fields.items():
            assert f"\n``{name}``\n   ``" in section
            assert str(field.description) in section
    assert "default ``2000``, ``>= 1``, unit: steps: training steps." in api_pages()["plugin"]


def test_the_reference_for_plugins_has_contracts_first_and_then_tools() -> None:
    _, contracts, tools = re.split(r"^Tier [12]: \w+$", api_pages()["plugin"], flags=re.MULTILINE)
    for number, text in enumerate((contracts, tools), start=1):
        found = re.findall(r"^(\w+)\n\^+$", text, flags=re.MULTILINE)
        assert sorted(found) == sorted(n for n in plugin.__all__ if plugin.tier(n) == number)
    assert contracts.index("\nRepresentations\n~") < contracts.index("\nBoxes\n^")


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("torch.nn.modules.module.Module", "generated/torch.nn.Module.html"),
        ("torch.Tensor", "tensors.html#torch.Tensor"),
        ("torch.utils.data.dataset.TensorDataset", "data.html#torch.utils.data.TensorDataset"),
    ],
)
def test_names_of_pytorch_lead_to_its_pages(name: str, page: str) -> None:
    assert links.address(name) == f"{links.TORCH}/{page}"
    assert links.address("distill_core.contracts.geometry.Boxes") is None


def test_relative_links_resolve_without_the_site_too() -> None:
    """Pages are also read on a git host, where nothing is generated."""
    texts = [*DOCS.parent.glob("*.md"), *DOCS.glob("*.md"), *DOCS.glob("guide/*.md")]
    found = [
        (page, link)
        for page in texts
        for link in links.LINK.findall(page.read_text(encoding="utf-8"))
    ]
    assert len(found) > 50
    for page, link in found:
        target = (page.parent / link).resolve()
        assert not target.is_relative_to(DOCS / "reference"), f"{page.name}: {link}"
        assert target.exists(), f"{page.name}: {link}"


def test_a_link_out_of_the_documentation_is_found() -> None:
    guide = DOCS / "guide" / "write-a-plugin.md"
    found = links.outside(guide.read_text(encoding="utf-8"), guide, DOCS)
    assert any(path.name == "distill_alphabetical" for path in found.values())
    assert "class Alphabetical" in links.source_page(next(iter(found.values())), DOCS.parent)


def test_the_reference_says_units_and_sources_of_options() -> None:
    page = component_pages(discover())["algorithm"]
    _, _, section = page.partition("\n## ratbptt\n")
    _, _, option = section.partition("\n`algo.batch`\n")
    facts, text, source = option.split("\n\n")[:3]
    assert facts.endswith("unit: images")
    assert text.strip()
    assert source == "  Source: PoDD, section 5.1."
