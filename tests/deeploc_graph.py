"""Trains DeepLoc's graph for some steps with TensorFlow, in the scopes of the authors' code, and writes its checkpoint.

Run as a program where TensorFlow is installed: ``deeploc_graph.py CHECKPOINT PARTS.npy OUTPUTS.npz``. Batch norm's running
moments, the optimizer and the step counter get the names that TensorFlow gives them.
"""

import sys

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
FILTERS, CLASSES, STEPS = (4, 4, 8, 8, 16, 16, 16, 16), 19, 6
HIDDEN = 32


def variable(*shape, value=None):
    start = v1.truncated_normal(shape, stddev=0.1) if value is None else tf.constant(value, shape=shape)
    return v1.Variable(start)


def layer(x, name, weights_shape, training, active=True):
    """One layer: weights and biases in their scopes, then batch norm with moments that are averaged while it is trained."""
    outputs = weights_shape[-1]
    with v1.name_scope(name):
        with v1.name_scope("weights"):
            weights = variable(*weights_shape)
        with v1.name_scope("biases"):
            biases = variable(outputs, value=0.1)
        x = (tf.nn.conv2d(x, weights, 1, "SAME") if len(weights_shape) == 4 else x @ weights) + biases
        with v1.name_scope("batch_norm"), v1.variable_scope(f"{name}_batch_norm"):
            beta = v1.Variable(tf.zeros(outputs), name="beta")
            gamma = v1.Variable(tf.ones(outputs), name="gamma")
            moments = tf.nn.moments(x, list(range(len(weights_shape) - 1)), name="moments")
            average = v1.train.ExponentialMovingAverage(0.5)

            def updated():
                with tf.control_dependencies([average.apply(moments)]):
                    return [tf.identity(m) for m in moments]

            mean, var = v1.cond(training, updated, lambda: [average.average(m) for m in moments])
            x = tf.nn.batch_normalization(x, mean, var, beta, gamma, 1e-3)
    return tf.nn.relu(x) if active else x


def main(checkpoint, parts_file, outputs_file):
    v1.disable_eager_execution()
    v1.disable_control_flow_v2()
    v1.set_random_seed(1)
    parts = np.load(parts_file)
    training = v1.placeholder(tf.bool, [])
    x = given = v1.placeholder(tf.float32, (None, 60, 60, 2))
    inputs = 2
    for i, width in enumerate(FILTERS, 1):
        x = layer(x, f"conv_{i}", (3, 3, inputs, width), training)
        inputs = width
        if i in (2, 4, 8):
            x = tf.nn.max_pool2d(x, 2, 2, "SAME")
    x = tf.reshape(x, (-1, 64 * inputs))
    x = layer(x, "fc_1", (64 * inputs, HIDDEN), training)
    fc2 = layer(x, "fc_2", (HIDDEN, HIDDEN), training)
    logits = layer(fc2, "final_layer", (HIDDEN, CLASSES), training, active=False)
    labels = tf.one_hot(np.arange(len(parts)) % CLASSES, CLASSES)
    loss = tf.reduce_mean(v1.nn.softmax_cross_entropy_with_logits_v2(labels, logits))
    step = v1.Variable(0, trainable=False)
    descend = v1.train.AdamOptimizer(0.01).minimize(loss, global_step=step)
    with v1.Session() as session:
        session.run(v1.global_variables_initializer(), {training: False})
        for _ in range(STEPS):
            session.run(descend, {given: parts, training: True})
        found = session.run({"fc2": fc2, "predictions": tf.nn.softmax(logits)}, {given: parts, training: False})
        v1.train.Saver(v1.global_variables()).save(session, checkpoint, global_step=5000)
    np.savez(outputs_file, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
