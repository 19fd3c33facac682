"""Networks: where they come from, their weights, how they take images, and what their layers give."""

from captum_shared.networks.registry import load_encoder

__all__ = ["load_encoder"]
