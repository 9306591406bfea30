"""Maps architectures to the families that build them."""

from importlib import import_module
from types import ModuleType

#: The module of `cotejo.models` that builds an architecture.
FAMILIES = {
    "lenet5": "lenet",
    "resnet_small": "resnet",
    "resnet50_light": "resnet",
    "alexnet": "alexnet",
    "vgg": "vgg",
    "inception": "inception",
    "basic_cnn": "basic_cnn",
}


def load_family(architecture: str) -> ModuleType:
    """Returns the module whose `build_model` builds an architecture; only what is built is imported."""
    return import_module(f"cotejo.models.{FAMILIES[architecture]}")
