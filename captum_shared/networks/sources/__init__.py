"""Where networks come from: torchvision, timm, transformers, open_clip, or the user's own module.

Each module has the same two functions, of a `Wanted` network: `check` refuses what does not exist, before anything is
made or downloaded; `load` returns the network and the transform of its images.
"""
