"""The whole contract in one line, and what this orderer is for."""

from distill_alphabetical import Alphabetical, AlphabeticalOptions

from distill_core.testing import check_component, check_orderer, discover


def test_contract():
    check_component(discover(), "orderer", "alphabetical")


def test_contract_without_installing():
    options = AlphabeticalOptions(reverse=True)
    check_orderer(lambda: Alphabetical(options), name="alphabetical")
