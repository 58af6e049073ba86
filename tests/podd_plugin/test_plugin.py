from __future__ import annotations

import subprocess
import sys

from distill_core import hookspecs
from podd_plugin import plugin
from registry import load_plugins


def test_everything_is_offered_and_nothing_is_broken():
    plugins = load_plugins(
        hookspecs.GROUP, hookspecs, hookspecs.KINDS, extra=[("podd_here", plugin)], only=[]
    )
    assert plugins.failures == []
    assert plugins.provided_by(plugins.providers[0]) == {
        "representation": ["poster"],
        "labeler": ["poddl"],
        "orderer": ["poco", "published", "qap"],
    }
    for kind in ("representation", "labeler", "orderer"):
        for name in plugins[kind]:
            component = plugins[kind][name]
            assert callable(component.resolve_factory())
            assert component.summary
            assert all(
                field.description for field in component.resolve_options().model_fields.values()
            )


def test_offering_components_imports_nothing_heavy():
    code = (
        "import sys; from podd_plugin import plugin as p\n"
        "p.distill_representations(); p.distill_labelers(); p.distill_orderers()\n"
        "p.distill_presets()\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'scipy', 'open_clip'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
