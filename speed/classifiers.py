"""One against the rest by L1 logistic regression: ours beside scikit-learn's liblinear, interleaved; and random forests.

    python speed/classifiers.py [--cells 6000] [--features 128] [--classes 17] [--folds 1] [--theirs 2] [--trees 5]

The paper's size is ``--cells 30889 --features 384``. Planted features are correlated and non-negative, as deep features are,
in classes of unlike size, and standardised; a fold trains on four fifths of the cells. Ours fits every class of `folds`
folds, liblinear `theirs` of the classes (from the smallest to the largest) of one fold, as LogisticRegression is called by
a user, and the forest grows `trees` of its 500 trees on one fold; lines that say "extrapolated" scale these up. LightGBM's
random forest is measured beside it, three times in turn, where it is installed (`pip install lightgbm`). Every measurement is a
fresh process on one core, so that peak memory is its own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context

import numpy as np

FOLDS, TREES = 5, 500
FORESTS = {"forest": "scikit-learn's", "lightgbm": "LightGBM's"}

MEASURE = r"""
import json, resource, sys, time
import numpy as np
name, folder, k, share = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def objective(w, x, positive, weight):
    margins = np.where(positive, 1, -1) * (x @ w[:-1] + w[-1])
    return np.abs(w).sum() + (np.where(positive, weight, 1) * np.logaddexp(0, -margins)).sum()

def grown(name, trees):
    if name == "forest":
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(trees, max_features=0.2, class_weight="balanced", random_state=0)
    from lightgbm import LGBMClassifier

    # a bootstrap holds 63.2 % of the cells; larger trees than its default of 31 leaves took longer and were less accurate
    return LGBMClassifier(
        boosting_type="rf", n_estimators=trees, subsample=0.632, subsample_freq=1, colsample_bynode=0.2, class_weight="balanced",
        random_state=0, n_jobs=1, verbose=-1,
    )

times, found, accuracy = [], {}, None
if name in ("forest", "lightgbm"):
    from sklearn.metrics import balanced_accuracy_score
else:
    from pci_bench.statistics.folds import balanced_weights
    from pci_bench.statistics.compiled.logistic import l1_logistic_regression
    from sklearn.linear_model import LogisticRegression
    warm = np.random.default_rng(0).normal(size=(200, 9))  # compiled code is loaded before the clock starts
    l1_logistic_regression(warm, warm[:, 0] > 0, 1.0, 1.0)
    LogisticRegression(solver="liblinear", l1_ratio=1.0).fit(warm, warm[:, 0] > 0)
for fold, classes in share:
    training, y = np.load(f"{folder}/features{fold}.npy"), np.load(f"{folder}/labels{fold}.npy")
    before = peak()
    if name in ("forest", "lightgbm"):
        forest = grown(name, classes)
        start = time.process_time()
        forest.fit(training, y)
        times.append(time.process_time() - start)
        grown_mb = peak() - before
        held_out = np.load(f"{folder}/held_out_features{fold}.npy"), np.load(f"{folder}/held_out_labels{fold}.npy")
        accuracy = balanced_accuracy_score(held_out[1], forest.predict(held_out[0]))
        continue
    weights = balanced_weights(y, k)
    for c in classes:
        start = time.perf_counter()
        if name == "ours":
            w, gap = l1_logistic_regression(training, y == c, weights[c], 1.0)
        else:
            model = LogisticRegression(
                solver="liblinear", l1_ratio=1.0, class_weight={False: 1.0, True: weights[c]}, max_iter=1000
            )
            model.fit(training, y == c)
            w, gap = np.append(model.coef_[0], model.intercept_[0]), 0.0
        times.append(time.perf_counter() - start)
        grown_mb = peak() - before  # before the objective is measured, which takes memory as well
        found[f"{fold} {c}"] = objective(w, training, y == c, weights[c]), gap
print(json.dumps({"seconds": times, "grown_mb": grown_mb, "found": found, "accuracy": accuracy}))
"""


def plant(folder: str, cells: int, features: int, classes: int, folds: int) -> None:
    """Write the features and labels of some folds, for training and held out."""
    rng = np.random.default_rng(0)
    sizes = np.geomspace(1, 30, classes)
    labels = rng.choice(classes, cells, p=sizes / sizes.sum())
    factors = rng.normal(size=(classes, 40))[labels] + 1.5 * rng.normal(size=(cells, 40))
    mixed = factors @ rng.normal(size=(40, features)) / 40**0.5 + 0.3 * rng.normal(size=features)
    values = np.maximum(0, mixed + 0.3 * rng.normal(size=(cells, features))).astype(np.float32)
    for fold in range(folds):
        inside = np.arange(cells) % FOLDS != fold
        training = values[inside].astype(np.float64)
        mean, sd = training.mean(axis=0), training.std(axis=0)
        np.save(f"{folder}/features{fold}.npy", (training - mean) / sd)
        np.save(f"{folder}/labels{fold}.npy", labels[inside])
        np.save(f"{folder}/held_out_features{fold}.npy", (values[~inside].astype(np.float64) - mean) / sd)
        np.save(f"{folder}/held_out_labels{fold}.npy", labels[~inside])


def measure(name: str, folder: str, classes: int, share: list) -> dict:
    """Return the seconds of every fit, memory growth, each fit's objective and duality gap, and a forest's balanced accuracy."""
    single_thread = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
    )
    command = [sys.executable, "-c", MEASURE, name, folder, str(classes), json.dumps(share)]
    done = subprocess.run(command, env={**os.environ, **single_thread}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def compare(folder: str, options: argparse.Namespace) -> None:
    """Measure everything and print it."""
    k, fits = options.classes, FOLDS * options.classes
    compared = sorted({round(i * (k - 1) / max(options.theirs - 1, 1)) for i in range(options.theirs)})

    ratios, objectives, ours_mb, liblinear_mb, gaps, liblinear_seconds = [], [], [], [], [], []
    for c in compared:
        ours, liblinear = (measure(name, folder, k, [[0, [c]]]) for name in ("ours", "liblinear"))
        ratios.append(liblinear["seconds"][0] / ours["seconds"][0])
        liblinear_seconds += liblinear["seconds"]
        objectives.append(ours["found"][f"0 {c}"][0] / liblinear["found"][f"0 {c}"][0])
        print(
            f"class {c:2}: ours {ours['seconds'][0]:6.2f} s, liblinear {liblinear['seconds'][0]:7.2f} s, ratio {ratios[-1]:5.1f}, "
            f"objective ours / theirs {objectives[-1]:.8f}",
            flush=True,
        )
        ours_mb.append(ours["grown_mb"])
        liblinear_mb.append(liblinear["grown_mb"])
    whole = measure("ours", folder, k, [[fold, list(range(k))] for fold in range(options.folds)])
    gaps = [gap for _, gap in whole["found"].values()]
    forests = [name for name in FORESTS if name != "lightgbm" or find_spec("lightgbm")]
    grown = {name: [] for name in forests}
    for _ in range(3):
        for name in forests:
            grown[name].append(measure(name, folder, k, [[0, options.trees]]))

    print(f"\n{options.cells:,} cells × {options.features} features, {k} classes, one core; {fits} fits are 5 folds")
    ours_seconds = sum(whole["seconds"])
    per_fit = sum(liblinear_seconds) / len(liblinear_seconds)
    print(
        f"ours:      {len(gaps)} fits {ours_seconds:.1f} s; {fits} fits {ours_seconds * FOLDS / options.folds:.0f} s"
        f"{'' if options.folds == FOLDS else ' (extrapolated)'}; {max(ours_mb):.0f} MB grown; largest duality gap {max(gaps):.1e}"
    )
    print(
        f"liblinear: {len(liblinear_seconds)} fits {sum(liblinear_seconds):.1f} s; {fits} fits {per_fit * fits:.0f} s (extrapolated); "
        f"{max(liblinear_mb):.0f} MB grown; objective ours / theirs at most {max(objectives):.8f}; ratio {min(ratios):.1f} to {max(ratios):.1f}"
    )
    for name, runs in grown.items():
        seconds = statistics.median(run["seconds"][0] for run in runs)
        print(
            f"{FORESTS[name]} forest: {options.trees} trees {seconds:.1f} CPU s, median of {len(runs)}; {TREES} trees × {FOLDS} folds "
            f"{seconds / options.trees * TREES * FOLDS / 60:.0f} min (extrapolated); {runs[0]['grown_mb']:.0f} MB grown; balanced accuracy "
            f"{runs[0]['accuracy']:.3f} on the fold held out"
        )
    if "lightgbm" not in forests:
        print("LightGBM is not installed, so its forest was not measured.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=6000)
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--classes", type=int, default=17)
    parser.add_argument("--folds", type=int, default=1, choices=range(1, FOLDS + 1))
    parser.add_argument("--theirs", type=int, default=2)
    parser.add_argument("--trees", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with ProcessPoolExecutor(
            1, get_context("spawn")
        ) as pool:  # a child's peak memory begins with that of its parent
            pool.submit(plant, folder, options.cells, options.features, options.classes, options.folds).result()
        compare(folder, options)


if __name__ == "__main__":
    main()
