"""Benchmark: is the ONNX graph faster than the PyTorch network, and by how much?"""
