"""Elastix itself, by the few modules of itk-elastix that it takes.

`itk.elastix_registration_method` loads every module that Elastix's wrapper names, and those that these name: 1,100 of
them, 12 of 15 processor seconds before a small registration begins. The classes below are the same ones.
"""

from pathlib import Path

import numpy as np

from synthct.images.grid import Volume


def run(fixed: Volume, moving: Volume, mask: Volume | None, stages: list[dict[str, list[str]]], log: Path) -> list:
    """The transform parameter maps that Elastix finds, one a stage; `stages` are its parameter maps.

    Volumes are compared as float32, `mask` (above 0 is inside) lies on the fixed grid. What Elastix tells goes to the
    file `log`. Raises `RuntimeError` where it gives up.
    """
    from itk.elxParameterObjectPython import elastixParameterObject_New
    from itk.itkElastixRegistrationMethodPython import itkElastixRegistrationMethodIF3IF3_New
    from itk.itkPyBufferPython import itkPyBufferIF3, itkPyBufferIUC3

    parameters = elastixParameterObject_New()
    for stage in stages:
        parameters.AddParameterMap(stage)
    elastix = itkElastixRegistrationMethodIF3IF3_New()
    kept = [_contiguous(fixed, np.float32), _contiguous(moving, np.float32)]  # ITK's images are views of these
    elastix.SetFixedImage(_image(itkPyBufferIF3, kept[0], fixed))
    elastix.SetMovingImage(_image(itkPyBufferIF3, kept[1], moving))
    if mask is not None:
        kept.append(_contiguous(mask, np.uint8))
        elastix.SetFixedMask(_image(itkPyBufferIUC3, kept[2], mask))
    elastix.SetParameterObject(parameters)
    elastix.SetLogToConsole(False)
    elastix.SetLogToFile(True)
    elastix.SetOutputDirectory(str(log.parent))
    elastix.SetLogFileName(log.name)
    # the number of threads stays unset: giving it crashes itk-elastix with several metrics (the environment rules)
    elastix.UpdateLargestPossibleRegion()
    found = elastix.GetTransformParameterObject()
    return [found.GetParameterMap(i) for i in range(found.GetNumberOfParameterMaps())]


def _contiguous(volume: Volume, kind) -> np.ndarray:
    return np.ascontiguousarray(volume.array.astype(kind))


def _image(buffer, array: np.ndarray, volume: Volume):
    """ITK's image of `array`, placed as `volume` is; it does not own its voxels."""
    from itk.itkMatrixPython import itkMatrixD33
    from itk.vnl_matrixPython import vnl_matrixD

    matrix = vnl_matrixD(3, 3)
    for place, value in enumerate(volume.grid.direction):
        matrix.put(place // 3, place % 3, float(value))
    image = buffer.GetImageViewFromArray(array)
    image.SetSpacing(volume.grid.spacing)
    image.SetOrigin(volume.grid.origin)
    image.SetDirection(itkMatrixD33(matrix))
    return image
