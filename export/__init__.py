"""Trained models to bundles: torch to ONNX, importers of public checkpoints, training recipes."""
