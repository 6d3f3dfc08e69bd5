"""Trains, evaluates and exports the packaged default model `nano`."""
