"""PyTorch training, ONNX export, parity and benchmark."""
