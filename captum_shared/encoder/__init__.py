"""Images to latents: a network that stops at a layer, pooled."""

from captum_shared.encoder.fast import fast_encoder
from captum_shared.encoder.images import encode_images
from captum_shared.encoder.latents import LatentEncoder

__all__ = ["LatentEncoder", "encode_images", "fast_encoder"]
