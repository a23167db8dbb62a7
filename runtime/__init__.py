"""Values, stages, bundles, backends and the engine."""
