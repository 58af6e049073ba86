"""Works are found by arXiv number first: titles of papers are often parts of each other."""

from __future__ import annotations

import pytest

from registry.bibtex import named_in, read_bibtex

FILE = """@misc{first,
  title = {Dataset Distillation},
  eprint = {1811.10959},
}

@misc{second,
  title = {Birds},
  doi = {10.1/B5},
}
"""


@pytest.mark.parametrize(
    ("source", "keys"),
    [
        ("Wang et al. (arXiv:1811.10959), section 2", ["first"]),
        ("a paper on Dataset Distillation", []),
        ("arXiv:1811.109590", []),
        ("Wah et al., birds, 2011", ["second"]),
        ("doi 10.1/b5; arXiv:1811.10959", ["first", "second"]),
    ],
)
def test_a_source_names_its_works(source: str, keys: list[str]) -> None:
    works = read_bibtex(FILE)
    assert [work.key for work in named_in(source, works)] == keys


def test_an_entry_stays_as_it_is_written() -> None:
    assert "\n\n".join(work.text for work in read_bibtex(FILE)) == FILE.rstrip()
