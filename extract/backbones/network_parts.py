"""Parts of networks: a transformers class reduced to the modules that a tower uses."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch


def parts_of(model_class: Any, kept: Collection[str]) -> Any:
    """Return a class like `model_class` that consists of some of its modules only.

    `from_pretrained` builds it without memory first and reads the weights that it has, so that the other
    modules cost nothing.

    Parameters
    ----------
    model_class : type
        A transformers class.
    kept : collection of str
        Names of the modules and parameters to keep, such as "text_model" or "model.visual"; what lies inside
        them stays, and so do their parents, without their other children.
    """

    def __init__(self: Any, config: Any) -> None:
        model_class.__init__(self, config)
        _keep(self, kept)

    def _init_weights(self: Any, module: torch.nn.Module) -> None:
        # The whole network's own rule would reach for children that are gone. Nothing is lost: missing
        # weights are refused, never drawn at random.
        if module is not self:
            model_class._init_weights(self, module)

    return type(
        # transformers finds its rules for weights saved by older versions by the name of the class, and looks
        # for them only if the module is one of its own.
        model_class.__name__,
        (model_class,),
        {
            "__init__": __init__,
            "_init_weights": _init_weights,
            "__module__": model_class.__module__,
            "_tied_weights_keys": {},  # one of a tied pair may be gone
        },
    )


def _keep(module: torch.nn.Module, kept: Collection[str]) -> None:
    """Delete every child of `module` that is neither in `kept` nor the parent of something that is."""
    children = [name for name, _ in module.named_children()]
    parameters = [name for name, _ in module.named_parameters(recurse=False)]
    for name in [*children, *parameters]:
        inside = [path.removeprefix(f"{name}.") for path in kept if path.startswith(f"{name}.")]
        if name in kept:
            continue
        if inside:
            _keep(module.get_submodule(name), inside)
        else:
            delattr(module, name)
