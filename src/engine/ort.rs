//! ONNX Runtime: the only file that knows it.
