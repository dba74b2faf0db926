"""Figures as PNG bytes. The same input gives the same bytes; colours are told apart by the colour-blind and by
shape.
"""
