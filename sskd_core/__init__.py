"""Semi-supervised knowledge distillation for segmentation, from a bucket of images to a promoted model.

Import from the sub-packages; this module stays empty so that a stage pays only for what it uses.
"""

__version__ = "0.1.0"
