"""Arithmetic, chance and blurring that give the same bits on every processor.

Additions, multiplications, divisions and square roots are rounded correctly by every processor, so an array expression made
of these alone, one operation at a time, has one result. Exponentials, angles and library filters have not: their last bits
depend on vector units and on versions of libm. Everything here is therefore built of the former, and sums have a written order.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

_LOG2 = 0.6931471805599453
_LOG2_HIGH, _LOG2_LOW = 0.6931471803691238, 1.9082149292705877e-10  # their sum is log 2; the first has 32 bits
_HALF_PI_HIGH, _HALF_PI_LOW = 1.5707963267341256, 6.077100506506192e-11
_EXP_TERMS = 14
_QUANTILES = 1 << 16  # of the normal distribution: one for each 16-bit integer
_STEPS_PER_SD = 1 << 12


def exp(x: Any) -> np.ndarray:
    """Return the exponential of an array (float32 stays float32), to about two units in the last place.

    Arguments below −80 count as −80, so that no result is a subnormal number.

    Examples
    --------
    >>> exp([0.0, 1.0])
    array([1.        , 2.71828183])
    """
    x = _floating(x)
    kind = x.dtype.type
    x = np.clip(x, kind(-80), kind(80))
    power = np.rint(x * kind(1 / _LOG2))
    if kind is np.float32:  # 9 bits of the high part leave the product with a power below 2⁸ exact
        rest = x - power * kind(0.693359375)
        rest += power * kind(2.12194440e-4)
        terms = 8
    else:
        rest = x - power * _LOG2_HIGH
        rest -= power * _LOG2_LOW
        terms = _EXP_TERMS
    total = np.ones_like(rest)
    for divisor in range(terms, 0, -1):  # Horner's rule on 1 + r (1 + r/2 (1 + r/3 …))
        total *= rest
        total *= kind(1 / divisor)
        total += kind(1)
    exponential: np.ndarray = np.ldexp(total, power.astype(np.int32))
    return exponential


def log(x: Any) -> np.ndarray:
    """Return the natural logarithm of positive float64 numbers.

    Examples
    --------
    >>> log([1.0, 2.0])
    array([0.        , 0.69314718])
    """
    mantissa, power = np.frexp(np.asarray(x, np.float64))
    small = mantissa < 0.7071067811865476
    mantissa = np.where(small, 2 * mantissa, mantissa)
    power = power - small
    ratio = (mantissa - 1) / (mantissa + 1)  # log m = 2 artanh ratio, |ratio| < 0.172
    square = ratio * ratio
    total = np.zeros_like(ratio)
    for odd in range(23, -1, -2):
        total = total * square + 1 / odd if odd > 0 else total
    logarithm: np.ndarray = power * _LOG2_HIGH + (power * _LOG2_LOW + 2 * ratio * total)
    return logarithm


def sin(x: Any) -> np.ndarray:
    """Return the sine of float64 angles (radians, up to about 10⁶)."""
    return _sine(x, 0)


def cos(x: Any) -> np.ndarray:
    """Return the cosine of float64 angles (radians, up to about 10⁶)."""
    return _sine(x, 1)


def _sine(x: Any, quarter: int) -> np.ndarray:
    """Return sin(x + quarter · π/2)."""
    x = np.asarray(x, np.float64)
    turns = np.rint(x * (2 / np.pi))
    rest = (x - turns * _HALF_PI_HIGH) - turns * _HALF_PI_LOW
    square = rest * rest
    odd, even = np.ones_like(rest), np.ones_like(rest)
    for n in range(16, 0, -2):
        odd = 1 - odd * square / (n * (n + 1))
        even = 1 - even * square / (n * (n - 1))
    which = (turns.astype(np.int64) + quarter) & 3
    value = np.where(which & 1, even, odd * rest)
    sine: np.ndarray = np.where(which & 2, -value, value)
    return sine


def arctan2(y: Any, x: Any) -> np.ndarray:
    """Return the angle of points, −π … π; 0 at the origin. Leading axes broadcast; float32 stays float32.

    Examples
    --------
    >>> arctan2(1.0, 0.0)
    array(1.57079633)
    """
    y, x = np.broadcast_arrays(_floating(y), _floating(x))
    kind = np.result_type(y, x).type
    up, right = np.abs(y), np.abs(x)
    longer, shorter = np.maximum(up, right), np.minimum(up, right)
    ratio = shorter / np.maximum(longer, np.finfo(kind).tiny)
    steep = ratio > kind(0.4142135623730951)  # tan π/8
    ratio = np.where(steep, (ratio - kind(1)) / (ratio + kind(1)), ratio)
    square = ratio * ratio
    total = np.zeros_like(ratio)
    for odd in range(9 if kind is np.float32 else 33, 0, -2):
        total = kind(1 / odd) - total * square
    angle = ratio * total + np.where(steep, kind(np.pi / 4), kind(0))
    angle = np.where(up > right, kind(np.pi / 2) - angle, angle)
    angle = np.where(x < 0, kind(np.pi) - angle, angle)
    signed: np.ndarray = np.where(y < 0, -angle, angle)
    return signed


def hypot(a: Any, b: Any) -> np.ndarray:
    """Return √(a² + b²)."""
    length: np.ndarray = np.sqrt(a * a + b * b)
    return length


def norm(vectors: np.ndarray) -> np.ndarray:
    """Return the length of plane vectors (…, 2) -> (…)."""
    return hypot(vectors[..., 0], vectors[..., 1])


def total(values: np.ndarray) -> np.ndarray:
    """Return the sum over the last axis, one number after the other (…, k) -> (…)."""
    result = values[..., 0].copy()
    for place in range(1, values.shape[-1]):
        result += values[..., place]
    return result


def _floating(x: Any) -> np.ndarray:
    """Return an array of float32 where it is one already, else of float64."""
    array = np.asarray(x)
    return array if array.dtype == np.float32 else array.astype(np.float64)


def gaussian_filter(image: np.ndarray, sigma: float, truncate: float = 3.0) -> np.ndarray:
    """Return a float32 image (rows, columns) blurred by a Gaussian; pixels beyond the border are as those at it.

    Parameters
    ----------
    image
        (rows, columns) float32.
    sigma
        Standard deviation in pixels.
    truncate
        Where the kernel ends, in standard deviations.
    """
    weights = _kernel(float(sigma), float(truncate))
    for axis in range(2):
        image = _convolved(image, weights, axis)
    return image


@cache
def _kernel(sigma: float, truncate: float) -> tuple[np.float32, ...]:
    """Return the middle and one side of a Gaussian kernel whose sum is 1."""
    radius = int(truncate * sigma + 0.5)
    side = [float(exp(-0.5 * (step / sigma) * (step / sigma))) for step in range(radius + 1)]
    whole = side[0]
    for weight in side[1:]:
        whole += 2 * weight
    return tuple(np.float32(weight / whole) for weight in side)


def _convolved(image: np.ndarray, weights: tuple[np.float32, ...], axis: int) -> np.ndarray:
    """Return an image convolved with a symmetric kernel along one axis, from the middle of the kernel outwards."""
    radius, n = len(weights) - 1, image.shape[axis]
    wide = np.pad(image, [(radius, radius) if a == axis else (0, 0) for a in range(2)], mode="edge")
    part = [slice(None), slice(None)]

    def shifted(step: int) -> np.ndarray:
        part[axis] = slice(radius + step, radius + step + n)
        return wide[tuple(part)]

    result = shifted(0) * weights[0]
    pair = np.empty_like(result)
    for step, weight in enumerate(weights[1:], start=1):
        np.add(shifted(-step), shifted(step), out=pair)
        pair *= weight
        result += pair
    return result


def quantile(values: np.ndarray, share: float) -> np.float32:
    """Return the value below which a share of float32 numbers lies, interpolated linearly between the two nearest.

    As NumPy's from 2.4 on; earlier ones round the place of the value to float32, and so interpolate otherwise.

    Examples
    --------
    >>> float(quantile(np.float32([4, 1, 3, 2]), 0.5))
    2.5
    """
    place = (values.size - 1) * share
    low = int(place)
    high = min(low + 1, values.size - 1)
    ordered = np.partition(values.astype(np.float32, copy=False).ravel(), [low, high])
    before, after, weight = ordered[low], ordered[high], place - low
    step = after - before
    between: np.float32 = after - step * np.float32(1 - weight) if weight >= 0.5 else before + step * np.float32(weight)
    return between


@cache
def _normal_quantiles() -> np.ndarray:
    """Return 65,536 equally likely values of the normal distribution, rounded to 1/4096: far coarser than libraries differ."""
    from scipy.special import ndtri

    quantiles: np.ndarray = np.rint(ndtri((np.arange(_QUANTILES) + 0.5) / _QUANTILES) * _STEPS_PER_SD) / _STEPS_PER_SD
    return quantiles.astype(np.float32)


@cache
def _gamma_quantiles(shape: float) -> np.ndarray:
    """Return 4,096 equally likely values of the gamma distribution of scale 1, rounded to 1/4096."""
    from scipy.special import gammaincinv

    quantiles: np.ndarray = np.rint(gammaincinv(shape, (np.arange(4096) + 0.5) / 4096) * _STEPS_PER_SD) / _STEPS_PER_SD
    return quantiles


class Random:
    """Random numbers that are the same on every processor, for a key of non-negative integers.

    A subset of NumPy's ``Generator``, whose integers are the same everywhere, with its names and arguments. Normal and gamma
    numbers are looked up in tables of quantiles, so they are discrete and have no tail beyond 4.3 standard deviations.

    Examples
    --------
    >>> Random(1, 2).integers(0, 10, 3)
    array([6, 4, 9])
    """

    def __init__(self, *key: int):
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
        self.integers = self._generator.integers
        self.permutation = self._generator.permutation
        self.permuted = self._generator.permuted

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        """Return numbers from `low` to `high`, as an array of shape `size`."""
        return low + (high - low) * self._generator.random(size)

    def standard_normal(self, size: Any) -> np.ndarray:
        """Return float32 numbers of mean 0 and standard deviation 1."""
        drawn: np.ndarray = _normal_quantiles()[self._generator.integers(0, _QUANTILES, size, dtype=np.uint16)]
        return drawn

    def normal(self, mean: Any, sd: Any, size: Any = None) -> Any:
        """Return float64 numbers of the normal distribution."""
        drawn = self.standard_normal(1 if size is None else size).astype(np.float64)
        return mean + sd * (float(drawn[0]) if size is None else drawn)

    def gamma(self, shape: float, scale: float, size: Any) -> np.ndarray:
        """Return numbers of the gamma distribution."""
        drawn: np.ndarray = (
            scale * _gamma_quantiles(float(shape))[self._generator.integers(0, 4096, size, dtype=np.uint16)]
        )
        return drawn

    def poisson(self, mean: Any, size: Any = None) -> np.ndarray:
        """Return integers of the Poisson distribution, by inversion; means up to about 50."""
        mean = np.broadcast_to(np.asarray(mean, np.float64), np.shape(mean) if size is None else size)
        drawn = self._generator.random(mean.shape)
        count = np.zeros(mean.shape, np.int64)
        share = exp(-mean)
        reached = share.copy()
        for number in range(1, 200):
            more = drawn > reached
            if not more.any():
                break
            count += more
            share = share * mean / number
            reached = reached + share
        return count
