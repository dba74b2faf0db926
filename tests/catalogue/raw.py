"""Volumes written byte by byte, so that their headers can say what no library would write."""

import struct

import numpy as np


def mha(data: bytes, elements: str = "LOCAL", **changes) -> bytes:
    """A MetaImage of 32×30×6 shorts; `changes` replace fields of its header (None: leave one away)."""
    fields = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "0 0 0",
        "ElementSpacing": "1 1 3",
        "DimSize": "32 30 6",
        "ElementType": "MET_SHORT",
    } | changes
    lines = [f"{key} = {value}\n" for key, value in fields.items() if value is not None]
    return "".join([*lines, f"ElementDataFile = {elements}\n"]).encode() + data


def nii(
    array: np.ndarray,
    *,
    dims=None,
    code=4,
    slope=1.0,
    inter=0.0,
    codes=(1, 1),
    spacing=(1, 1, 1, 3),
    offset=(0, 0, 0),
    srow=(-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 3, 0),
    magic=b"n+1\0",
    start=352,
) -> bytes:
    """A NIfTI-1 in LPS axes; `codes` are those of qform and sform."""
    head, dims = bytearray(352), list(dims or (3, *array.shape[::-1]))
    put = struct.pack_into
    put("<i", head, 0, 348)
    put("<8h", head, 40, *dims, *[1] * (8 - len(dims)))
    put("<2h", head, 70, code, 8 * array.dtype.itemsize)
    put("<8f", head, 76, *spacing, *[0] * (8 - len(spacing)))
    put("<3f", head, 108, start, slope, inter)
    head[123] = 2  # millimetres
    put("<2h", head, 252, *codes)
    put("<6f", head, 256, 0, 0, 1, *offset)  # half a turn about z
    put("<12f", head, 280, *srow)
    head[344:348] = magic
    return bytes(head) + array.tobytes()


def nrrd(data: bytes, **changes) -> bytes:
    """A NRRD of 32×30×6 shorts; `changes` replace fields (underscores stand for blanks; None: leave one away)."""
    fields = {
        "type": "short",
        "dimension": 3,
        "space": "left-posterior-superior",
        "sizes": "32 30 6",
        "space directions": "(1,0,0) (0,1,0) (0,0,3)",
        "endian": "little",
        "encoding": "raw",
        "space origin": "(0,0,0)",
    } | {key.replace("_", " "): value for key, value in changes.items()}
    lines = [f"{key}: {value}\n" for key, value in fields.items() if value is not None]
    return "".join(["NRRD0004\n", *lines, "\n"]).encode() + data
