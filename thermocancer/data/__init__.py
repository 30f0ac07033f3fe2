"""Catalog, split, HDF5 store, input pipelines, video."""
