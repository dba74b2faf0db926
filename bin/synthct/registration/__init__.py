"""Registration: from two images of one patient to a displacement field, one idea a file.

`pairwise` registers a pair by an arm's engine: `elastix` (the organisers' baseline) or `dense` (feature similarity on a
B-spline free-form deformation). `checks` refuses pairs that cannot be registered, `transform` applies and writes
results, `quality` and `preview` show what came of it.
"""
