"""The component `export_onnx`; importing it loads no library of ours."""
