"""Training steps of paired cell inpainting: ours beside upsampling before every convolution, in torch and in Keras.

    python speed/training.py [--width 1.0] [--batch 16] [--threads 2] [--bfloat16]

Keras is measured where it is installed with a backend (`pip install tensorflow-cpu`); the authors trained with it. Random
crops and weights; one step is forward, backward and Adam. `--bfloat16` adds ours with `train --precision bfloat16`, which is slow
on a processor without such instructions. Interleaved, median of three after a step to warm up; CPU time where others use the machine.
"""

import argparse
import statistics
import time
from importlib.util import find_spec

import numpy as np

from pci_bench.speed.training_step import keras_step, torch_step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--bfloat16", action="store_true")
    options = parser.parse_args()
    has_keras = bool(find_spec("keras") and find_spec("tensorflow"))
    if has_keras:
        import tensorflow

        from pci_bench.system.threads import available_cores

        tensorflow.config.threading.set_intra_op_parallelism_threads(options.threads or available_cores())
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    from pci_bench.system.threads import available_cores, set_threads

    threads = set_threads(options.threads or available_cores())
    crops = np.random.default_rng(0).random((options.batch, 2, 64, 64), dtype=np.float32)
    ways = {
        "pci-bench, on the small grid": torch_step(crops, options.width, True),
        "torch, upsampling first": torch_step(crops, options.width, False),
    }
    if options.bfloat16:
        ways["pci-bench, bfloat16"] = torch_step(crops, options.width, True, bfloat16=True)
    if has_keras:
        ways["Keras (TensorFlow), as published"] = keras_step(crops, options.width)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for step in ways.values():
        step()
    for _ in range(3):
        for name, step in ways.items():
            started, began = time.perf_counter(), time.process_time()
            step()
            cpu[name].append(time.process_time() - began)
            rates[name].append(options.batch / (time.perf_counter() - started))
    ours = statistics.median(rates["pci-bench, on the small grid"])
    print(f"One training step, width {options.width:g}, batches of {options.batch}, {threads} threads, median of 3")
    for name, measured in rates.items():
        rate = statistics.median(measured)
        ratio = "" if rate == ours else f"   ours is {ours / rate:.2f} × as fast"
        print(f"{name:34}{statistics.median(cpu[name]):8.3f} CPU s a step{rate:8.2f} pairs/s{ratio}")
    if not has_keras:
        print("Keras is not installed with TensorFlow, so it was not measured.")


if __name__ == "__main__":
    main()
