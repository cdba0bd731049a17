"""A program with CellProfiler's command line: it reads the image list and writes tables in the layout of ExportToSpreadsheet.

The pipeline's modules say how it behaves: ``StandInFails``, ``StandInIsKilled``, ``StandInWaits``, ``StandInSplits`` …
It knows nothing of pci-bench, and notes every run in ``$STAND_IN_NOTES``: its arguments, pipeline and images.
"""

import csv
import json
import os
import pathlib
import re
import signal
import sys
import time


def option(name):
    return pathlib.Path(sys.argv[sys.argv.index(name) + 1])


def load(row, kind, name):
    import tifffile

    return tifffile.imread(pathlib.Path(row[f"Image_{kind}PathName_{name}"]) / row[f"Image_{kind}FileName_{name}"])


def write(folder, name, rows):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def main():
    if "--version" in sys.argv:
        print(os.environ.get("STAND_IN_VERSION", "4.2.8.1"))
        return 0
    (data,) = (a.partition("=")[2] for a in sys.argv if a.startswith("--data-file="))
    with open(data, newline="") as file:
        sets = list(csv.DictReader(file))
    pipeline = option("-p").read_text()
    modules = re.findall(r"^(\w+):\[module_num:\d+", pipeline, re.MULTILINE)
    assert modules[0] == "LoadData", modules
    assert f"ModuleCount:{len(modules)}\n" in pipeline
    images = [key.removeprefix("Image_FileName_") for key in sets[0] if key.startswith("Image_FileName_")]
    if notes := os.environ.get("STAND_IN_NOTES"):
        with open(notes, "a") as file:
            note = {"pid": os.getpid(), "modules": modules, "pipeline": pipeline, "images": images, "sets": len(sets)}
            file.write(json.dumps(note) + "\n")
    if "StandInWaits" in modules and len(sets) > 1:
        time.sleep(600)
    if "StandInIsKilled" in modules and len(sets) > 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if "StandInDoesNotKnow" in modules:  # as CellProfiler: it leaves a module out, and goes on
        print(
            "Failed to load pipeline\nTraceback (most recent call last):\n  File\nValueError: Could not find the X module",
            file=sys.stderr,
        )
    wanted = re.findall(r"Select images to measure:(.*)", pipeline)
    wanted = [name.strip() for name in wanted[0].split(",")] if wanted else images
    cells = [
        [
            "ImageNumber",
            "ObjectNumber",
            "AreaShape_Area",
            *(f"Intensity_MeanIntensity_{i}" for i in wanted),
            "Number_Object_Number",
            "Texture_Note",
        ]
    ]
    spots = [["ImageNumber", "ObjectNumber", "AreaShape_Area", "Parent_Cells"]]
    for number, row in enumerate(sets, start=1):
        for name in wanted:
            if name not in images:
                print(
                    "Error detected during run of module MeasureObjectIntensity\nTraceback (most recent call last):\n"
                    f'  File "_pipeline.py", line 1016\nValueError: The {name} image is missing from the pipeline.',
                    file=sys.stderr,
                )
                option("-d").write_text("Failure\n")
                return 255
        mask = load(row, "Objects", "Cells") == 1
        means = [load(row, "", name)[mask].mean(dtype=float) for name in wanted]
        cells.append([number, 1, mask.sum(), *means, 1, "round"])
        bright = int((load(row, "", images[0])[mask] > 0.9).sum())  # a spot for every bright pixel
        spots += [[number, i + 1, 1, 1] for i in range(bright)]
    if "StandInForgets" in modules and len(sets) > 1:
        cells = [row[:2] + row[3:] for row in cells]
    if "StandInSaysText" in modules and len(sets) > 1:
        cells[-1][2] = "many"
    if "StandInMiscounts" in modules:
        cells[-1][0] = 99
    tables = option("-o")
    if "StandInExportsNothing" not in modules:
        write(tables, "Cells.csv", cells)
    if "StandInFindsSpots" in modules:
        write(tables, "Spots.csv", spots)
    if "StandInMeasuresImages" in modules:
        first = ["ExecutionTime_01LoadData", "FileName_GFP", "ImageNumber", "Granularity_1_GFP", "Count_Cells"]
        write(
            tables, "Image.csv", [first, *([0.5, "a.tiff", n + 1, "nan" if n else 10 + n, 1] for n in range(len(sets)))]
        )
    write(tables, "Experiment.csv", [["Key", "Value"], ["CellProfiler_Version", "4.2.8.1"]])
    option("-d").write_text("Complete\n")
    return 0


sys.exit(main())
