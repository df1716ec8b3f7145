"""Parity: is the ONNX graph the same model as the PyTorch network?"""
