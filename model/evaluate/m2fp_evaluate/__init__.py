"""Measures a model folder of m2fp-lambda on the published human parsing data sets."""
