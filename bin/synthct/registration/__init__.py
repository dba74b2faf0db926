"""Registration: from two images of one patient to a displacement field, one idea a file.

`impact` (feature similarity on a B-spline free-form deformation) and `elastix` (the organisers' baseline) are the two
methods; `bspline`, `features`, `similarity` and `mutual` are what `impact` is made of; `transform` applies and writes
results; `quality` judges them.
"""
