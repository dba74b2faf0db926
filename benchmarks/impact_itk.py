#!/usr/bin/env python3
"""The other side of impact_parity.py: values and derivatives of itk-impact, by an interpreter that has it.

    PYTHON benchmarks/impact_itk.py JOBS.json RESULTS.json

JOBS is a list of dictionaries (see `_measure` for the keys); RESULTS gets one {"value", "derivative", "valid"} each,
the derivative with respect to the B-spline's parameters, or {"error": str}.
"""

import json
import sys

import torch  # noqa: F401  the wheel takes its LibTorch from here, so it must be first

import itk  # isort: skip

IMAGE = itk.Image[itk.F, 3]


def main(jobs: str, results: str):
    with open(jobs, encoding="utf-8") as handle:
        given = json.load(handle)
    found = []
    for job in given:
        try:
            found.append(_measure(job))
        except RuntimeError as fault:
            found.append({"error": str(fault).strip().splitlines()[-1]})
    with open(results, "w", encoding="utf-8") as handle:
        json.dump(found, handle)


def _measure(job: dict) -> dict:
    metric = itk.ImpactImageToImageMetricv4[IMAGE, IMAGE].New()
    metric.SetMaximumNumberOfWorkUnits(1)
    fixed, moving = (itk.imread(job[name], itk.F) for name in ("fixed", "moving"))
    metric.SetFixedImage(fixed)
    metric.SetMovingImage(moving)
    metric.SetVirtualDomainFromImage(fixed)
    if job["interpolation"] == "cubic":  # of the Jacobian mode's patches; Static maps always are
        for place in (metric.SetFixedInterpolator, metric.SetMovingInterpolator):
            spline = itk.BSplineInterpolateImageFunction[IMAGE, itk.D, itk.F].New()
            spline.SetSplineOrder(3)
            place(spline)
    layers = len(job["layer_weights"])
    patch = [0, 0, 0] if job["mode"] == "static" else [job["patch"]] * 3
    metric.AddModelConfiguration(
        itk.ImpactModelConfiguration(
            job["model"], 3, 1, patch, [job["voxel_mm"]] * 3, [0, 0, 0], [bit == "1" for bit in job["mask"]], False
        )
    )
    metric.SetMode(job["mode"].capitalize())
    metric.SetDistance([job["distance"]] * layers)
    metric.SetLayersWeight(job["layer_weights"])
    metric.SetSubsetFeatures([1000] * layers)  # held at the number of channels: all
    metric.SetPCA([job["pca"]])
    metric.SetSeed(1)
    metric.SetNormalizeLosses(job["normalised"])
    points = itk.PointSet[itk.F, 3].New()
    for number, point in enumerate(job["points"]):
        points.SetPoint(number, point)
    metric.SetUseSampledPointSet(True)
    metric.SetUseVirtualSampledPointSet(True)
    metric.SetVirtualSampledPointSet(points)
    spline = itk.BSplineTransform[itk.D, 3, 3].New()
    _fill(spline.SetFixedParameters, job["fixed_parameters"])
    transform_parameters = _array(job["parameters"])
    spline.SetIdentity()
    metric.SetMovingTransform(spline)
    metric.SetFixedTransform(itk.IdentityTransform[itk.D, 3].New())
    metric.Initialize()
    if job["normalised"]:
        metric.GetValue()  # the first value, at the identity, is what later ones are divided by
    spline.SetParameters(transform_parameters)
    value = metric.GetValue()
    derivative = itk.Array[itk.D]()
    metric.GetDerivative(derivative)  # ITK's optimisers add it, so it points downhill
    return {
        "value": value,
        "derivative": [-derivative.GetElement(k) for k in range(derivative.Size())],
        "valid": int(metric.GetNumberOfValidPoints()),
    }


def _array(values: list[float]):
    result = itk.OptimizerParameters[itk.D](len(values))
    for k, value in enumerate(values):
        result.SetElement(k, value)
    return result


def _fill(place, values: list[float]):
    place(_array(values))


if __name__ == "__main__":
    main(*sys.argv[1:])
