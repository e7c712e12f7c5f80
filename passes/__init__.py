"""Graph passes: one pass a file, one stage or purpose a folder.

    base         what a pass is: the contract
    inputs       what the graph takes: fixed shapes, uint8 images
    cleanup      rewrites that make any graph smaller, right for every target
    dialect      ops of the segc dialect: recognize them, lower them
    masks        everything between the logits and the mask
    performance  exact rewrites that make an engine faster; each target chooses its own
    precision    float16
    legalize     op by op, for runtimes and opsets that lack one
    support      helpers that several passes use; no passes
    registry     every pass by its name

`from segc.passes import LowerAdaptiveAvgPool` works for every pass: the name is looked up in the registry on first use,
so that importing this package imports no pass.
"""

if __name__ != "segc.passes":
    raise ImportError("import segc.passes: under the short name this would be a second registry")

from importlib import import_module
from typing import Any

_CONTRACT = ("Pass", "PassResult", "Skip")


def __getattr__(name: str) -> Any:
    if name in _CONTRACT:
        return getattr(import_module("segc.passes.base"), name)
    if name[:1].isupper():  # modules are written small: those the import system finds by itself
        registry = import_module("segc.passes.registry")
        if name == "REGISTRY":
            return registry.REGISTRY
        if name in registry.BY_CLASS:
            return registry.BY_CLASS[name]
    raise AttributeError(f"module 'segc.passes' has no attribute {name!r}")
