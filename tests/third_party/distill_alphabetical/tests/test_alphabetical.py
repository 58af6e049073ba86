"""The whole contract in one line, and what this orderer is for."""

from distill_alphabetical import Alphabetical, AlphabeticalOptions

from distill_core.testing import check_installed, check_orderer


def test_contract():
    check_installed("orderer", "alphabetical")


def test_contract_without_installing():
    options = AlphabeticalOptions(reverse=True)
    check_orderer(lambda: Alphabetical(options), name="alphabetical")
