"""Versions of packages, and packages that do not belong together."""

from __future__ import annotations

import sys
from importlib import metadata

import pytest

from distill_core.builtin.datasets.options import TorchvisionOptions
from distill_core.builtin.datasets.torchvision_sets import Cifar10
from distill_core.system.versions import check_torchvision, versions
from registry import EnvironmentFault
from tests.distill_core.cli.fakes import distill

FAULT = "operator torchvision::nms does not exist"


@pytest.fixture
def of_another_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        """Finds torchvision, and fails as its extension does with another PyTorch."""

        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            if name == "torchvision":
                raise RuntimeError(FAULT)

    for name in [each for each in sys.modules if each.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken, *sys.meta_path])


def test_versions_are_those_of_the_installed_packages() -> None:
    assert versions()["torch"] == metadata.version("torch")


def test_packages_that_belong_together_pass() -> None:
    check_torchvision()


@pytest.mark.usefixtures("of_another_torch")
def test_a_torchvision_of_another_torch_is_named() -> None:
    with pytest.raises(EnvironmentFault) as caught:
        check_torchvision()
    assert str(metadata.version("torchvision")) in caught.value.what
    assert FAULT in caught.value.what
    assert "reinstall both" in caught.value.next


@pytest.mark.usefixtures("of_another_torch")
def test_a_dataset_is_not_blamed_for_it() -> None:
    with pytest.raises(EnvironmentFault, match=r"^torchvision .* cannot be imported"):
        Cifar10(TorchvisionOptions()).load()


@pytest.mark.usefixtures("of_another_torch")
def test_nor_a_network_of_timm() -> None:
    result = distill("run", "--dry-run", "--preset", "quick-digits", "--backbone", "timm:test_vit")
    assert result.exit_code == 1
    assert result.stderr.count("cannot be imported with torch") == 1
