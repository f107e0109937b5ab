"""From a trained student to an ONNX file that stands alone."""
