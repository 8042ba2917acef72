"""Models: how networks come in, from ONNX files, PyTorch modules and scikit-learn, compared with their source."""
