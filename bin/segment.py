#!/usr/bin/env python3
"""Make the TotalSegmentator label map of a CT or synthetic CT that Dice and HD95 compare (task total, 3 mm model)."""

import click

from synthct.core.cli import OUT, VOLUME, tool
from synthct.core.device import CHOICES, device_of
from synthct.core.files import write_json
from synthct.core.records import KIND
from synthct.images.labels import label_map
from synthct.images.volume import read_volume, write_volume
from synthct.networks.weights import digests_of, of_labels


@tool("segment.py", help=__doc__)
@click.option("--image", required=True, type=VOLUME, help="CT or synthetic CT, HU")
@click.option("--device", type=click.Choice(CHOICES), default="auto", help="where the network runs")
@click.option("--program", help="TotalSegmentator's executable  [default: beside Python, else on PATH]")
@click.option("--record", type=OUT, help="JSON to write: the SHA-256 of the network that labelled")
@click.option("--out", required=True, type=OUT, help="label map to write, uint8 on the image's grid")
def main(image, device, program, record, out):
    write_volume(label_map(read_volume(image, "CT", "ct"), device_of(device).type, program), out)
    if record:
        write_json(record, {KIND: "segmentation", "weights": digests_of([of_labels()])})


if __name__ == "__main__":
    main()
