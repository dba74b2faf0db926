"""synthct: synthetic CT from MR or cone-beam CT, one idea a module.

Arrays are ordered (z, y, x) as SimpleITK's ``GetArrayFromImage`` gives them; grids (size, spacing, origin) are
ordered (x, y, z) and lie in LPS millimetres. Intensities of CT are Hounsfield units unless a name says otherwise.
"""

__version__ = "0.1.0"
