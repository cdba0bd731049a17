"""The score of the classic features on the simulated human cells: what human_sim.toml's difficulty was set on.

    python speed/calibrate_human.py [--collection human-sim] [--set proteins.diffuse=[0.1,0.5]] [--set signal=0.5] …

Draws the collection, with changed numbers where --set gives any, measures `classic-haralick` and prints Figure 2B's score (as
`pci-bench run human-distances`), which is what the difficulty was set on, and Table 2's (as `human-cell-lines`), which it was
not. The paper has −0.274, −0.3027 and −0.1813. No other feature set is computed here, and none was looked at. Crops are kept
nowhere, features in the cache.
"""

import argparse
import copy
import json
import time


def changed(settings: dict, assignments: list[str]) -> dict:
    """Return a copy of all settings with ``section.key=value`` assigned, values as JSON."""
    settings = copy.deepcopy(settings)
    for assignment in assignments:
        path, _, value = assignment.partition("=")
        *sections, key = path.split(".")
        part = settings
        for section in sections:
            part = part.get(section, {})
        if key not in part:
            raise SystemExit(f"There is no number '{path}' in human_sim.toml.")
        part[key] = json.loads(value)
    return settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collection", default="human-sim")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="assignments")
    options = parser.parse_args()

    from pci_bench import evaluate, extract
    from pci_bench.simulation.human.collection import SETTINGS, parameters_of, simulate

    begun = time.process_time()
    cells = simulate(parameters_of(options.collection), changed(SETTINGS, options.assignments)).cells()
    drawn = time.process_time() - begun
    features = extract("classic-haralick", cells, workers=1)
    (overall,) = evaluate("pairwise-distance", features, pairs=1000, minimum_proteins=4, statistic="z")
    (lines,) = evaluate("pairwise-distance-cell-line", features, minimum_proteins=4)
    low, high = overall.intervals["normalized_distance"]
    print(f"{len(cells):,} cells of {options.collection}, {1e3 * drawn / len(cells):.1f} CPU milliseconds each")
    print(f"Figure 2B             {overall.metrics['normalized_distance']:.3f} [{low:.3f}, {high:.3f}]")
    for name in ("same_cell_line", "different_cell_line", "difference"):
        low, high = lines.intervals[name]
        print(f"{'Table 2, ' + name.replace('_', ' '):28} {lines.metrics[name]:.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
