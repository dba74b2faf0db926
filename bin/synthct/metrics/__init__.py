"""The challenge's metrics: arrays in, numbers out. Nothing here reads a file or draws."""
