"""Reading TFLite files, and turning their graphs into stateful ONNX steps. No TensorFlow needed."""
