"""The HDF5 data set: what goes in, written exam by exam, read row by row."""
