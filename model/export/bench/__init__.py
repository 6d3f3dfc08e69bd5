"""M2FP side by side: ModelScope, plain ONNX, OpenVINO, the function. `make bench-m2fp`."""
