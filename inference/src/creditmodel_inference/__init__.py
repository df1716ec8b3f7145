"""ONNX Runtime scoring server."""
