"""Makes a model folder of m2fp-lambda out of an M2FP checkpoint."""
