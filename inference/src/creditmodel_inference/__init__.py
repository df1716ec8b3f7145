"""ONNX Runtime scoring server."""

import os

# Importing ONNX Runtime 1.32 starts its telemetry: it keeps a device id in the user's cache and reports to its maker.
# What is scored, and where, is nobody else's business: it is off before anything here can import it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
