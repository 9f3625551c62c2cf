"""Extreme numbers: every likelihood, density, posterior and objective stays finite, and right,
where log-variances of [-50, 50] and logits of [-1e4, 1e4] are asked for.

Each backend works in a process of its own, in float32 and in mixed precision. The reference is
SciPy (or the textbook formula) in 64 bits; where a part bounds what it is given, the reference is
written with the bounds its documentation states, and a test of its own holds `bound_logvar` to
them. The bare functions of `vaenb.distribution` do not bound: they promise the right number
wherever it fits into float32. `make test` takes one recipe of each kind, `make test-all` every
recipe. Of all cases it takes a sixth, another every day; in float32 on the first backend it takes
all.
"""

import json
import math
import os
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats
from thorough import installed, recipes_of_each_kind, some

if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = sys.argv[1]  # before the list of recipes imports Keras
BACKENDS = installed("tensorflow", "jax", "torch")
FEATURES = np.array(
    [
        -1e4,
        -1e3,
        -88.8,
        -50,
        -14,
        -3,
        -0.5,
        -1e-4,
        0,
        1e-4,
        0.3,
        0.5,
        0.999,
        2,
        12,
        50,
        89,
        1e3,
        1e4,
    ],
    "float32",
)
LOGVARS = np.array([-50, -30, -14, -1, 0, 1, 8, 30, 50], "float32")
LEVELS = np.array([0, 1, 2, 100, 127, 128, 253, 254, 255])
REALS = np.array([-1e4, -10, -0.1, 0, 1e-3, 0.5, 1, 1e4])
UNIT = np.array([0, 1e-6, 0.1, 0.5, 0.9, 1 - 1e-6, 1])
COUNTS = np.array([0, 1, 2, 10, 1000, 1e6])
CASES = {}


def case(name, *arguments):
    """Registers a function that a worker calls with the dtype of the networks."""

    def register(function):
        CASES[name] = lambda half: function(*arguments, half)
        return function

    return register


# Gradients on any backend, with respect to Keras variables


def value_and_gradients(function, variables):
    """The value of a scalar function, and one NumPy array for each variable (0 where it does not
    matter)."""
    import keras

    numpy, backend = keras.ops.convert_to_numpy, keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = function()
        found = tape.gradient(value, [v.value for v in variables], unconnected_gradients="zero")
    elif backend == "jax":
        import jax

        def stateless(values):
            with keras.StatelessScope(state_mapping=list(zip(variables, values))):
                return function()

        value, found = jax.value_and_grad(stateless)([v.value for v in variables])
    else:
        for v in variables:
            v.value.grad = None
        value = function()
        value.backward()
        found = [np.zeros(v.shape) if v.value.grad is None else v.value.grad for v in variables]
    return float(numpy(value)), [
        numpy(keras.ops.convert_to_tensor(g)).astype("float64") for g in found
    ]


def weighted(outputs, seed=0):
    """A scalar whose gradient contains that of every output."""
    from keras import ops

    def weights(value):
        return ops.cast(np.random.default_rng(seed).uniform(0.5, 1, value.shape), value.dtype)

    return sum(ops.sum(value * weights(value)) for value in outputs)


def close(found, wanted, tolerance, atol=0.0, about=""):
    found, wanted = np.asarray(found, "float64"), np.asarray(wanted, "float64")
    assert np.isfinite(found).all(), (
        f"{about}: {found.size - np.isfinite(found).sum()} values are not finite, the "
        f"first at {np.argwhere(~np.isfinite(found))[0]}"
    )
    assert found.shape == wanted.shape, f"{about}: {found.shape} instead of {wanted.shape}"
    miss = np.abs(found - wanted) - tolerance * np.abs(wanted) - atol
    worst = np.unravel_index(np.argmax(miss), miss.shape)
    assert miss.max() <= 0, f"{about}: {found[worst]} instead of {wanted[worst]} at {worst}"


def bounded(raw, low, high):
    """What `bound_logvar` documents: raw itself in the middle, bent in the outer tenths, within
    [low, high]."""
    margin, raw = 0.1 * (high - low), np.asarray(raw, "float64")
    far = raw - np.clip(raw, low + margin, high - margin)
    return raw - far + margin * far / (margin + np.abs(far))


# Log-likelihoods in 64 bits


def log_bernoulli(x, f):
    return np.where(x > 0, x * special.log_expit(f), 0) + np.where(
        x < 1, (1 - x) * special.log_expit(-f), 0
    )


def log_continuous_bernoulli(x, f):
    with np.errstate(invalid="ignore"):
        constant = np.where(f == 0, 2.0, f / np.tanh(f / 2))
    return log_bernoulli(x, f) + np.log(constant)


def log_discretized_logistic(x, f, raw, levels=256):
    k, scale = np.rint(x * (levels - 1)), np.exp(bounded(raw, -10, 4))
    low, high = ((edge / (levels - 1) - f) / scale for edge in (k - 0.5, k + 0.5))
    low, high = np.where(k == 0, -np.inf, low), np.where(k == levels - 1, np.inf, high)
    left, right = (
        np.where(low > 0, -high, low),
        np.where(low > 0, -low, high),
    )  # the logistic is symmetric, and its left tail is the accurate one
    return special.log_expit(right) + np.log(
        -np.expm1(special.log_expit(left) - special.log_expit(right))
    )


def log_beta_binomial(x, f, raw, levels=256):
    n, k, total = levels - 1, np.rint(x * (levels - 1)), bounded(raw, -8, 10)

    def rising(log_a, k):  # log Gamma(a + k) - log Gamma(a), with Gamma(a) = 1/a where a is tiny
        a = np.exp(log_a)
        return np.where(
            k == 0,
            0.0,
            special.gammaln(a + k)
            - np.where(log_a < -40, -log_a, special.gammaln(np.maximum(a, 1e-300))),
        )

    log_c = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    return (
        log_c
        + rising(total + special.log_expit(f), k)
        + rising(total + special.log_expit(-f), n - k)
        - rising(total, np.float64(n))
    )


def log_poisson(x, f):
    log_rate = bounded(f, -14, 14)
    return x * log_rate - np.exp(log_rate) - special.gammaln(x + 1)


def slope(function, at):
    """Its derivative in 64 bits."""
    step = 1e-6 * np.maximum(np.abs(at), 1)
    return (function(at + step) - function(at - step)) / (2 * step)


# name: class, options, data, own variable and its values, reference(x, features, own), tolerance
# relative to the terms' size
LIKELIHOODS = {
    "bernoulli": ("Bernoulli", {}, np.array([0.0, 1.0]), None, lambda x, f, v: log_bernoulli(x, f)),
    "grey bernoulli": (
        "Bernoulli",
        {"binarize": True},
        UNIT,
        None,
        lambda x, f, v: log_bernoulli(x, f),
    ),
    "continuous bernoulli": (
        "ContinuousBernoulli",
        {},
        UNIT,
        None,
        lambda x, f, v: log_continuous_bernoulli(x, f),
    ),
    "narrow normal": (
        "Normal",
        {"sigma": 1e-3},
        REALS,
        None,
        lambda x, f, v: stats.norm.logpdf(x, f, 1e-3),
    ),
    "learned normal": (
        "Normal",
        {"sigma": "learned"},
        REALS,
        "log_sigma",
        lambda x, f, v: stats.norm.logpdf(x, f, np.exp(bounded(2 * v, -14, 8) / 2)),
    ),
    "discretized logistic": (
        "DiscretizedLogistic",
        {},
        LEVELS / 255,
        "raw_scale",
        lambda x, f, v: log_discretized_logistic(x, f, v),
    ),
    "black and white logistic": (
        "DiscretizedLogistic",
        {"levels": 2},
        np.array([0.0, 1.0]),
        "raw_scale",
        lambda x, f, v: log_discretized_logistic(x, f, v, 2),
    ),
    "poisson": ("Poisson", {}, COUNTS, None, lambda x, f, v: log_poisson(x, f)),
}


def reach(function, at):
    """How far the function moves while its argument is rounded to 32 bits, in sums with numbers up
    to 1: the accuracy that can be asked of 32-bit arithmetic."""
    step = 3e-7 * np.maximum(1, np.abs(at))
    return np.maximum(
        np.abs(function(at + step) - function(at)), np.abs(function(at - step) - function(at))
    )


def check_likelihood(name, half):
    """Values, and gradients with respect to features and the likelihood's own variable, one by one
    against the reference."""
    import keras
    from keras import ops

    import vaenb

    kind, options, data, own, reference = LIKELIHOODS[name]
    x, features = (a.ravel().astype("float32") for a in np.meshgrid(data, FEATURES))
    features = ops.convert_to_numpy(
        ops.cast(ops.cast(features, half), "float32")
    )  # as a network of that dtype would give them
    likelihood = getattr(vaenb, kind)(**options).bind((1,))
    likelihood.check(x[:, None])
    term = (
        (lambda f: bounded(f, -14, 14)) if name == "poisson" else (lambda f: f)
    )  # x times it is the largest number on the way
    given, wide, at = (
        keras.Variable(features, dtype="float32"),
        x.astype("float64"),
        features.astype("float64"),
    )
    for value in (
        (LOGVARS / 2 if own == "log_sigma" else LOGVARS).astype("float64") if own else [0.0]
    ):
        variables = [given, *([getattr(likelihood, own)] if own else [])]
        if own:
            variables[1].assign(value)

        def log_p(f):
            return reference(wide, f, value)

        found = ops.convert_to_numpy(
            likelihood.log_prob(x[:, None], ops.cast(features[:, None], half))
        )
        assert found.dtype == "float32"
        close(
            found,
            log_p(at),
            3e-6,
            3e-6 + 2e-7 * np.abs(wide * term(at)) + reach(log_p, at),
            f"log p at {own}={value}",
        )
        total, (by_feature, *by_own) = value_and_gradients(
            lambda: ops.sum(likelihood.log_prob(x[:, None], ops.convert_to_tensor(given)[:, None])),
            variables,
        )
        assert math.isfinite(total)

        def change(f):
            return slope(log_p, f)

        close(
            by_feature,
            change(at),
            1e-3,
            1e-5 + 1e-6 * np.abs(wide) + 2 * reach(change, at),
            f"gradient at {own}={value}",
        )
        if own:
            close(
                by_own[0],
                slope(lambda v: reference(wide, at, v).sum(), np.float64(value)),
                1e-3,
                1e-4 * x.size,
                f"gradient by {own} at {value}",
            )
    mean, (by_mean,) = value_and_gradients(
        lambda: weighted([likelihood.mean(ops.convert_to_tensor(given))]), [given]
    )
    assert math.isfinite(mean) and np.isfinite(by_mean).all(), (
        "the mean or its gradient is not finite"
    )
    likelihood.check(ops.convert_to_numpy(likelihood.sample(ops.convert_to_tensor(given), 0))[None])


for name in LIKELIHOODS:
    case(f"likelihood: {name}", name)(check_likelihood)


@case("likelihood: beta-binomial")
def check_beta_binomial(half):
    """Both features, each over its whole range."""
    import keras
    from keras import ops

    from vaenb import BetaBinomial

    k, logits, raw = (a.ravel().astype("float32") for a in np.meshgrid(LEVELS, FEATURES, LOGVARS))
    features = ops.convert_to_numpy(
        ops.cast(ops.cast(np.stack([logits, raw], -1), half), "float32")
    )
    likelihood, given, wide = (
        BetaBinomial().bind((1,)),
        keras.Variable(features, dtype="float32"),
        features.astype("float64").T,
    )
    each = log_beta_binomial(k / 255.0, *wide)
    close(
        ops.convert_to_numpy(
            likelihood.log_prob(
                (k[:, None] / 255).astype("float32"), ops.cast(features[:, None], half)
            )
        ),
        each,
        5e-6,
        1e-4 + reach(lambda f: log_beta_binomial(k / 255.0, f, wide[1]), wide[0]),
        "log p",
    )
    total, (found,) = value_and_gradients(
        lambda: ops.sum(
            likelihood.log_prob(
                (k[:, None] / 255).astype("float32"), ops.convert_to_tensor(given)[:, None]
            )
        ),
        [given],
    )
    for i, about in enumerate(("logits", "log-concentration")):

        def along(f):
            return log_beta_binomial(k / 255.0, *(f if i == j else wide[j] for j in range(2)))

        close(
            found[:, i],
            slope(along, wide[i]),
            2e-3,
            2e-4 + 2 * reach(lambda f: slope(along, f), wide[i]),
            f"gradient by {about}",
        )
    draws = ops.convert_to_numpy(likelihood.sample(given, 0))
    likelihood.check(draws[None])
    likelihood.check(np.rint(255 * ops.convert_to_numpy(likelihood.mean(given)))[None] / 255)


@case("likelihood: categorical")
def check_categorical(half):
    import keras
    from keras import ops

    from vaenb import Categorical

    rng = np.random.default_rng(0)
    features = np.concatenate(
        [
            rng.choice(FEATURES, (60, 256)),
            np.full((4, 256), 1e4),
            np.full((4, 256), -1e4),
            1e4 * np.eye(4, 256),
            -1e4 * np.eye(4, 256),
        ]
    ).astype("float32")
    features = ops.convert_to_numpy(ops.cast(ops.cast(features, half), "float32"))
    k = np.resize(LEVELS, len(features))
    likelihood, given = Categorical().bind((1,)), keras.Variable(features, dtype="float32")
    logs = special.log_softmax(features.astype("float64"), axis=-1)
    close(
        ops.convert_to_numpy(
            likelihood.log_prob(
                (k[:, None] / 255).astype("float32"), ops.cast(features[:, None], half)
            )
        ),
        logs[np.arange(len(k)), k],
        1e-6,
        1e-6,
        "log p",
    )
    _, (found,) = value_and_gradients(
        lambda: ops.sum(
            likelihood.log_prob(
                (k[:, None] / 255).astype("float32"), ops.convert_to_tensor(given)[:, None]
            )
        ),
        [given],
    )
    close(found, np.eye(256)[k] - np.exp(logs), 1e-5, 1e-6, "gradient")
    close(
        ops.convert_to_numpy(likelihood.mean(given)),
        np.exp(logs) @ np.linspace(0, 1, 256),
        1e-5,
        1e-6,
        "mean",
    )
    likelihood.check(ops.convert_to_numpy(likelihood.sample(given, 0))[None])


@case("likelihood: optimal normal")
def check_optimal_normal(half):
    """In training the variance is the batch's own; the running one follows, and evaluation uses
    that."""
    import keras
    from keras import ops

    from vaenb import Normal

    for features, x in (
        (FEATURES, np.resize(REALS, len(FEATURES))),
        (FEATURES, FEATURES),
        (np.full(19, 1e4), np.full(19, -1e4)),
    ):
        features, x = (
            np.asarray(ops.convert_to_numpy(ops.cast(ops.cast(features, half), "float32"))),
            np.asarray(x, "float32"),
        )
        likelihood, given = (
            Normal("optimal").bind(x.shape),
            keras.Variable(features, dtype="float32"),
        )
        variance = max(((x.astype("float64") - features) ** 2).mean(), 1e-6)
        for training in (True, False):
            exact = stats.norm.logpdf(x.astype("float64"), features, math.sqrt(variance))
            close(
                ops.convert_to_numpy(likelihood.log_prob_each(x, features, training)),
                exact,
                1e-5,
                1e-5,
                f"log p, training={training}",
            )
            _, (found,) = value_and_gradients(
                lambda: likelihood.log_prob(x, given, training), [given]
            )
            close(
                found,
                (x.astype("float64") - features) / variance,
                1e-5,
                0,
                f"gradient, training={training}",
            )


# Densities


@case("densities: normal")
def check_normal(half):
    import keras
    from keras import ops

    from vaenb import distribution as D

    x, mu, logvar = (
        a.ravel()
        for a in np.meshgrid(
            REALS.astype("float32"), np.array([-1e4, -1, 0, 1e4], "float32"), LOGVARS
        )
    )
    given = [keras.Variable(v, dtype="float32") for v in (x, mu, logvar)]

    def tensors():
        return [ops.convert_to_tensor(v) for v in given]

    X, M, V = (v.astype("float64") for v in (x, mu, logvar))
    close(
        ops.convert_to_numpy(D.normal_log_prob(*tensors(), event_ndim=0)),
        stats.norm.logpdf(X, M, np.exp(V / 2)),
        1e-5,
        1e-5,
        "log p",
    )
    _, found = value_and_gradients(
        lambda: ops.sum(D.normal_log_prob(*tensors(), event_ndim=0)), given
    )
    away = (X - M) * np.exp(-V)
    for name, g, exact in zip(
        ("x", "mu", "logvar"), found, (-away, away, 0.5 * (away * (X - M) - 1))
    ):
        close(g, exact, 1e-5, 1e-5, f"gradient by {name}")
    close(
        ops.convert_to_numpy(D.normal_entropy(LOGVARS, event_ndim=0)),
        stats.norm(0, np.exp(LOGVARS.astype("float64") / 2)).entropy(),
        1e-6,
        1e-6,
        "entropy",
    )

    def sampled():
        return D.sample_normal(*tensors()[1:], seed=3)

    eps = ops.convert_to_numpy(keras.random.normal(mu.shape, seed=3)).astype("float64")
    close(ops.convert_to_numpy(sampled()), M + np.exp(V / 2) * eps, 1e-5, 1e-5, "sample")
    _, (_, by_mu, by_logvar) = value_and_gradients(lambda: ops.sum(sampled()), given)
    close(by_mu, np.ones_like(M), 0, 0, "sample's gradient by mu")
    close(by_logvar, 0.5 * np.exp(V / 2) * eps, 1e-5, 1e-6, "sample's gradient by logvar")


@case("densities: KL of normals")
def check_normal_kl(half):
    """The closed form is exact up to the edge of float32, e^88; beyond, where the truth is no
    float32 number, it is infinite and not a wrong finite number."""
    import keras
    from keras import ops

    from vaenb import distribution as D

    mu, logvar, prior = (
        a.ravel()
        for a in np.meshgrid(np.array([-1e4, -0.1, 0, 3, 1e4], "float32"), LOGVARS, LOGVARS)
    )
    given = [keras.Variable(v, dtype="float32") for v in (mu, logvar, prior)]

    def kl(keep):
        return D.normal_kl(
            *(ops.take(v, keep) for v in given[:2]), 0.0, ops.take(given[2], keep), event_ndim=0
        )

    M, V, P = (v.astype("float64") for v in (mu, logvar, prior))
    exact = 0.5 * (np.exp(V - P) - 1 - (V - P) + M**2 * np.exp(-P))
    fits = V - P < 88
    close(ops.convert_to_numpy(kl(np.flatnonzero(fits))), exact[fits], 1e-5, 1e-6, "KL")
    assert np.isinf(ops.convert_to_numpy(kl(np.flatnonzero(~fits)))).all() and (~fits).any()
    _, found = value_and_gradients(lambda: ops.sum(kl(np.flatnonzero(fits))), given)
    wanted = M * np.exp(-P), 0.5 * np.expm1(V - P), 0.5 * (-np.expm1(V - P) - M**2 * np.exp(-P))
    for name, g, w in zip(("mu", "logvar", "prior_logvar"), found, wanted):
        close(g, np.where(fits, w, 0), 1e-5, 1e-5, f"gradient by {name}")
    against_standard = ops.convert_to_numpy(D.normal_kl(mu, logvar, event_ndim=0))
    close(against_standard, 0.5 * (np.expm1(V) - V + M**2), 1e-5, 1e-6, "KL to N(0, 1)")


@case("densities: coins, dice, counts and averages")
def check_discrete(half):
    import keras
    from keras import ops

    from vaenb import distribution as D

    q, p = (a.ravel() for a in np.meshgrid(FEATURES, FEATURES))
    Q, P = q.astype("float64"), p.astype("float64")
    given = [keras.Variable(v, dtype="float32") for v in (q, p)]
    s, t = special.expit(Q), special.expit(-Q)
    exact = s * (special.log_expit(Q) - special.log_expit(P)) + t * (
        special.log_expit(-Q) - special.log_expit(-P)
    )
    close(
        ops.convert_to_numpy(D.bernoulli_kl(q, p, event_ndim=0)),
        exact,
        1e-5,
        3e-6 * (1 + np.abs(P)) * np.minimum(1, np.abs(Q - P)) + 1e-6,
        "KL of coins",
    )
    _, found = value_and_gradients(
        lambda: D.bernoulli_kl(*(ops.convert_to_tensor(v) for v in given)), given
    )
    close(found[0], s * t * (Q - P), 1e-4, 1e-5 + 1e-7 * np.abs(Q - P), "gradient of the KL by q")
    close(found[1], special.expit(P) - s, 1e-4, 1e-6, "gradient of the KL by p")
    close(
        ops.convert_to_numpy(D.bernoulli_entropy(q, event_ndim=0)),
        -s * special.log_expit(Q) - t * special.log_expit(-Q),
        1e-5,
        1e-7,
        "entropy",
    )
    y = np.concatenate([np.geomspace(1e-30, 1e30, 121), [4.9999995, 5, 5.0000005]]).astype(
        "float32"
    )
    given = keras.Variable(y, dtype="float32")
    close(
        ops.convert_to_numpy(D.log_gamma(y)),
        special.gammaln(y.astype("float64")),
        1e-6,
        4e-6,
        "log Gamma",
    )
    close(
        value_and_gradients(lambda: ops.sum(D.log_gamma(ops.convert_to_tensor(given))), [given])[1][
            0
        ],
        special.digamma(y.astype("float64")),
        3e-5,
        3e-5,
        "digamma",
    )
    w = (
        np.random.default_rng(0)
        .choice([-1e30, -1e10, -1e4, -1, 0, 1, 1e4, 1e10, 1e30], (200, 7))
        .astype("float32")
    )
    given = keras.Variable(w, dtype="float32")
    close(
        ops.convert_to_numpy(D.log_mean_exp(w)),
        special.logsumexp(w.astype("float64"), axis=1) - math.log(7),
        1e-6,
        1e-6,
        "log_mean_exp",
    )
    close(
        value_and_gradients(lambda: ops.sum(D.log_mean_exp(ops.convert_to_tensor(given))), [given])[
            1
        ][0],
        special.softmax(w.astype("float64"), axis=1),
        1e-5,
        1e-6,
        "its gradient",
    )


@case("bounds")
def check_bounds(half):
    """`bound_logvar` is the number itself in the middle, never leaves its bounds, never falls, and
    its gradient dies out slowly: at 50 a wrong log-variance can still come back."""
    import keras
    from keras import ops

    from vaenb.distribution import bound_logvar

    for low, high in ((-14.0, 8.0), (-10.0, 4.0), (-8.0, 10.0), (-4.0, 4.0), (-14.0, 14.0)):
        raw = np.unique(
            np.concatenate([np.linspace(-50, 50, 2001), [-1e4, 1e4, -1e30, 1e30]])
        ).astype("float32")
        given, margin = keras.Variable(raw, dtype="float32"), 0.1 * (high - low)
        found = ops.convert_to_numpy(bound_logvar(raw, low, high))
        _, (gradient,) = value_and_gradients(
            lambda: ops.sum(bound_logvar(ops.convert_to_tensor(given), low, high)), [given]
        )
        middle = (raw > low + margin) & (raw < high - margin)
        assert np.allclose(found[middle], raw[middle], atol=2e-6) and (gradient[middle] == 1).all()
        assert (np.diff(found) >= 0).all() and found.min() >= low and found.max() <= high
        assert (
            (gradient[np.abs(raw) <= 50] > 1e-4).all()
            and np.isfinite(gradient).all()
            and gradient.max() <= 1.0001
        )


# Posteriors and priors. Heads are asked for log-variances of -50 to 50, means of -10 to 10, and
# everything else of -10 to 10

N, D = 6, 4
RAW = np.array(
    [
        [-50, 50, -50, 50],
        [50, 50, 50, 50],
        [-50, -50, -50, -50],
        [-14, 8, -30, 30],
        [0, -1, 1, 0],
        [50, 0, -50, 8],
    ],
    "float32",
)
MEANS = np.random.default_rng(1).uniform(-10, 10, (N, D)).astype("float32")
POSTERIORS = {
    "diagonal": ("DiagonalNormal", {}),
    "full": ("FullNormal", {}),
    **{
        flow: ("FlowPosterior", {"flow": flow, "hidden": (8,)})
        for flow in ("planar", "radial", "iaf", "maf", "realnvp")
    },
}
PRIORS = {
    "standard": ("StandardNormal", {}),
    "mixture": ("MixtureOfNormals", {"n_components": 5}),
    "flow": ("FlowPrior", {"hidden": (8,)}),
    "iaf": ("FlowPrior", {"flow": "iaf", "hidden": (8,)}),
}


def extreme_prior(name):
    """A prior whose own weights ask for the extreme."""
    import vaenb

    kind, options = PRIORS[name]
    prior = getattr(vaenb, kind)(**options).bind((D,))
    if name == "mixture":
        prior.raw_logvars.assign(RAW[:5])
        prior.means.assign(MEANS[:5])
        prior.logits.assign([1e4, -1e4, 0, 50, 1e4])
    else:
        for w in prior.weights:
            if "seed" not in w.path:
                w.assign(10 * w)
    return prior


def posterior_with_heads(name):
    """A posterior on `N` features that are one-hot, so that the rows of the heads' kernel are what
    each example asks for."""
    import vaenb

    kind, options = POSTERIORS[name]
    posterior = getattr(vaenb, kind)(**options).bind((D,))
    posterior.given(np.eye(N, dtype="float32"))  # creates the heads
    wide = posterior.heads.kernel.shape[1]
    posterior.heads.kernel.assign(
        np.concatenate(
            [
                MEANS,
                RAW,
                np.random.default_rng(2).uniform(-10, 10, (N, wide - 2 * D)).astype("float32"),
            ],
            axis=1,
        )
    )
    return posterior


def check_posterior(name, half):
    """Draws, their density, the density of other codes and the KL, against every prior, with
    gradients for all weights."""
    import keras
    from keras import ops

    from vaenb.distribution import kl_divergence

    posterior, features = posterior_with_heads(name), ops.cast(np.eye(N), half)
    given = posterior.given(features).params()
    params = {k: ops.convert_to_numpy(v).astype("float64") for k, v in given.items()}
    z, log_q = (
        ops.convert_to_numpy(v).astype("float64") for v in posterior.given(features).draw(5, 3)
    )
    assert np.isfinite(z).all() and np.isfinite(log_q).all()
    if name == "diagonal":
        close(params["mu"], MEANS, 1e-6, 0, "mu")
        close(params["logvar"], bounded(RAW, -14, 8), 1e-6, 1e-5, "logvar")
        close(
            log_q,
            stats.norm.logpdf(z, params["mu"][:, None], np.exp(params["logvar"] / 2)[:, None]).sum(
                -1
            ),
            1e-5,
            1e-2,
            "log q",
        )  # the draws are rounded to 1e-6, and sigma is 1e-3
    if name == "full":
        root, eps = (
            params["cholesky"],
            ops.convert_to_numpy(keras.random.normal((N, 5, D), seed=3)).astype("float64"),
        )
        close(
            np.log(np.diagonal(root, axis1=1, axis2=2)),
            bounded(RAW, -14, 8) / 2,
            1e-6,
            1e-5,
            "diagonal",
        )
        close(z, params["mu"][:, None] + np.einsum("nij,nkj->nki", root, eps), 1e-5, 1e-4, "draws")
        close(
            log_q,
            stats.norm.logpdf(eps).sum(-1) - bounded(RAW, -14, 8).sum(-1)[:, None] / 2,
            1e-5,
            1e-4,
            "log q",
        )
    for prior_name in PRIORS:
        prior = extreme_prior(prior_name)

        def everything():
            q, p = posterior.given(features), prior.given()
            z, log_q = q.draw(3, 3)
            found = [log_q, p.log_prob(z), q.mean()]
            closed = kl_divergence(q, p)
            if closed is not None:
                found.append(closed)
            if q.has_density:
                found.append(q.log_prob(ops.convert_to_tensor(MEANS[None])))
            return weighted(found)

        value, found = value_and_gradients(
            everything, [*posterior.trainable_variables, *prior.trainable_variables]
        )
        assert math.isfinite(value), f"{prior_name}: {value}"
        for variable, gradient in zip(
            [*posterior.trainable_variables, *prior.trainable_variables], found
        ):
            assert np.isfinite(gradient).all(), (
                f"{prior_name}: the gradient of {variable.path} is not finite"
            )


for name in POSTERIORS:
    case(f"posterior: {name}", name)(check_posterior)


@case("posterior: closed KL")
def check_closed_kl(half):
    from keras import ops

    from vaenb import StandardNormal
    from vaenb.distribution import kl_divergence

    prior, V = StandardNormal().bind((D,)), bounded(RAW, -14, 8)
    for name in ("diagonal", "full"):
        posterior = posterior_with_heads(name)
        q = posterior.given(ops.cast(np.eye(N), half))
        mu = MEANS.astype("float64")
        squares = (
            np.exp(V).sum(-1)
            if name == "diagonal"
            else (ops.convert_to_numpy(q.cholesky).astype("float64") ** 2).sum((1, 2))
        )
        close(
            ops.convert_to_numpy(kl_divergence(q, prior.given())),
            0.5 * (squares - D - V.sum(-1) + (mu**2).sum(-1)),
            1e-5,
            1e-4,
            name,
        )


@case("prior: mixture")
def check_mixture(half):
    """Weights, means and variances at their extremes, against SciPy, far from all components
    too."""
    from keras import ops

    prior, z = (
        extreme_prior("mixture"),
        np.concatenate([MEANS, 1e4 * np.ones((1, D)), -1e3 * np.eye(D)]).astype("float32"),
    )
    each = stats.norm.logpdf(
        z[:, None].astype("float64"),
        MEANS[:5].astype("float64"),
        np.exp(bounded(RAW[:5], -14, 8) / 2),
    ).sum(-1)
    exact = special.logsumexp(special.log_softmax([1e4, -1e4, 0, 50, 1e4]) + each, axis=1)
    close(ops.convert_to_numpy(prior.given().log_prob(z[None]))[0], exact, 1e-5, 1e-4, "log p(z)")
    draws = ops.convert_to_numpy(prior.given().sample(2000, 0)[0])
    assert np.isfinite(draws).all() and np.abs(draws).max() < 10 + 6 * math.exp(4)
    assert (
        np.abs(draws - MEANS[0]).max(1) < 6 * np.exp(bounded(RAW[0], -14, 8) / 2).max()
    ).mean() > 0.45, "the two components with logits of 1e4 share the draws"


# Objectives: first on terms of extreme size, against 64 bits; then whole models after every recipe


@case("objective: weights")
def check_weights(half):
    """Objectives that are functions of log-weights, with gaps between them that overflow an
    exponential."""
    import keras
    from keras import ops

    from vaenb import CIWAE, ELBO, IWAE, MIWAE, PIWAE, DReG
    from vaenb.vae import Trace

    rng = np.random.default_rng(0)
    values = {
        "log_px_z": rng.choice([-1e7, -1e4, -500, 0, 50], (20, 6)),
        "log_pz": rng.choice([-1e5, -20, 0], (20, 6)),
        "log_qz_x": rng.choice([-20, 0, 56], (20, 6)),
        "kl": rng.choice([0, 1, 1e5], 20),
    }
    values["log_px_z"][:2] = [[-1e7] * 6, [0] * 6]
    given = {
        name: keras.Variable(v.astype("float32"), dtype="float32") for name, v in values.items()
    }
    log_w = values["log_px_z"] + values["log_pz"] - values["log_qz_x"]

    def mean_exp(w, axis=1):
        return special.logsumexp(w, axis=axis) - math.log(w.shape[axis])

    wanted = {
        ELBO(3.0): 3 * values["kl"] - values["log_px_z"].mean(1),
        IWAE(6): -mean_exp(log_w),
        MIWAE(2, 3): -mean_exp(log_w.reshape(20, 2, 3), 2).mean(1),
        PIWAE(2, 3): -mean_exp(log_w),
        CIWAE(0.5, 6): -0.5 * log_w.mean(1) - 0.5 * mean_exp(log_w),
        DReG(6): -mean_exp(log_w),
    }
    for objective, exact in wanted.items():

        def loss():
            return objective.loss(Trace(**{k: ops.convert_to_tensor(v) for k, v in given.items()}))

        close(ops.convert_to_numpy(loss()), exact, 1e-6, 1e-2, f"{objective}")
        _, found = value_and_gradients(lambda: ops.sum(loss()), list(given.values()))
        weight = special.softmax(log_w, axis=1)
        if isinstance(objective, IWAE) and not isinstance(objective, CIWAE):
            close(found[0], -weight, 1e-4, 1e-6, f"gradient of {objective}")
        assert all(np.isfinite(g).all() for g in found), f"{objective}"


@case("objective: whole batches")
def check_batches(half):
    """Total correlation, covariance and kernel distance of codes with extreme means and
    variances."""
    import keras
    from keras import ops

    from vaenb.aggregate import batch_log_prob, dip_penalty, minibatch_log_weights, mmd

    mu, logvar, rng = 10 * MEANS, bounded(RAW, -14, 8).astype("float32"), np.random.default_rng(0)
    z = (mu + np.exp(logvar / 2) * rng.normal(size=mu.shape)).astype("float32")
    given = [keras.Variable(v, dtype="float32") for v in (z, mu, logvar)]
    Z, M, V = (v.astype("float64") for v in (z, mu, logvar))
    for estimator in ("stratified", "weighted"):
        weight = minibatch_log_weights(N, 1000.0, estimator)
        each = stats.norm.logpdf(Z[:, None], M[None], np.exp(V / 2)[None])
        W = ops.convert_to_numpy(weight).astype("float64")
        for found, exact in zip(
            batch_log_prob(*(ops.convert_to_tensor(v) for v in given), weight),
            (
                special.logsumexp(W + each.sum(-1), axis=1),
                special.logsumexp(W[..., None] + each, axis=1),
            ),
        ):
            close(ops.convert_to_numpy(found), exact, 1e-5, 1e-3, estimator)
        _, found = value_and_gradients(
            lambda: weighted(batch_log_prob(*(ops.convert_to_tensor(v) for v in given), weight)),
            given,
        )
        assert all(np.isfinite(g).all() for g in found), estimator
    for variance in (None, np.exp(V)):
        covariance = np.cov(M.T, bias=True) + (0 if variance is None else np.diag(variance.mean(0)))
        exact = (10 * (covariance - np.eye(D)) ** 2).sum()
        close(
            ops.convert_to_numpy(
                dip_penalty(
                    ops.convert_to_tensor(given[1]),
                    None if variance is None else ops.exp(given[2]),
                    10.0,
                    10.0,
                )
            ),
            exact,
            1e-4,
            0,
            "DIP",
        )
    far = np.concatenate([z, 1e4 * np.ones((1, D), "float32")])
    for kernel in ("imq", "rbf"):

        def value(a, b):
            square = ((a[:, None] - b[None]) ** 2).sum(-1)
            return np.mean(
                [
                    np.exp(-square / c) if kernel == "rbf" else c / (c + square)
                    for c in 2 * D * np.array([0.1, 0.2, 0.5, 1, 2, 5, 10])
                ],
                axis=0,
            )

        A, B, off = (
            far.astype("float64"),
            rng.normal(size=(N, D)),
            lambda k: k[~np.eye(len(k), dtype=bool)].mean(),
        )
        close(
            ops.convert_to_numpy(mmd(far, B.astype("float32"), kernel)),
            off(value(A, A)) - 2 * value(A, B).mean() + off(value(B, B)),
            1e-4,
            1e-5,
            kernel,
        )


def extreme_model(name):
    """A model after the recipe whose heads ask for log-variances of -50 to 50, and whose decoder
    gives features of -1e4 to 1e4."""
    from keras import ops, tree

    from vaenb import VAE, Bernoulli, dense, recipe
    from vaenb.recipes import RECIPES

    x = np.tile(np.array([[0, 1, 0, 1, 1, 0, 0, 1, 1, 0]], "float32"), (N, 1))
    x[::2] = 1 - x[::2]
    smaller = {
        "vamp-vae": {"n_components": 5},
        "iwae": {"k": 6},
        "dreg-iwae": {"k": 6},
        "ciwae": {"k": 6},
        "miwae": {"m": 2, "k": 3},
        "piwae": {"m": 2, "k": 3},
        "vq-vae": {"n_codes": 4},
        "rq-vae": {"n_stages": 2, "n_codes": 4},
    }
    labels = np.arange(N) % 3
    given = {"condition": labels} if RECIPES[name].parts.get("condition") else {}
    own = (
        {"likelihood": Bernoulli()}
        if issubclass(RECIPES[name].model, VAE) and "likelihood" not in RECIPES[name].parts
        else {}
    )
    width = 2 * D if "levels" in RECIPES[name].parts else N  # the lower codes are twice as long
    model = recipe(name, x, D, network=dense([width]), **own, **smaller.get(name, {}), **given)
    batch = {"x": x, "condition": model.condition.encode(labels)} if given else x
    told = 0 if model.condition is None else model.condition.dim  # also where it may be absent

    tensors = tree.map_structure(ops.convert_to_tensor, batch)

    def decoded(z):
        c = np.eye(told, dtype="float32")[np.arange(len(z)) % told] if told else None
        inputs = [z, c] if told else z
        return np.abs(ops.convert_to_numpy(ops.cast(model.decoder(inputs), "float32"))).max()

    head = model.posterior.heads if hasattr(model, "posterior") else model.bottleneck.head
    kernel = np.random.default_rng(3).normal(size=head.kernel.shape).astype("float32")
    if hasattr(model, "posterior"):
        more = np.random.default_rng(2).uniform(-10, 10, max(0, head.kernel.shape[1] - 2 * D))
        head.bias.assign(np.concatenate([MEANS[0], RAW[0], more])[: head.kernel.shape[1]])
    head.kernel.assign(5 * kernel if hasattr(model, "posterior") else 50 * kernel)
    if hasattr(getattr(model, "prior", None), "raw_logvars"):
        model.prior.raw_logvars.assign(np.resize(RAW, model.prior.raw_logvars.shape))
    if hasattr(getattr(model, "prior", None), "raw"):
        model.prior.raw.assign(np.resize([1e4, -1e4, 50, 0, -50], model.prior.raw.shape))
    output = (model.decoder.get_layer("decoder") if told else model.decoder).get_layer("output")
    below = D if told else model.decoder.input_shape[-1]
    codes = np.concatenate([50 * np.eye(below), -50 * np.eye(below)]).astype("float32")
    if below == D:
        codes = np.concatenate([ops.convert_to_numpy(model.codes(tensors)), codes])
    output.kernel.assign(output.kernel * float(1e4 / decoded(codes)))
    assert 5e3 < decoded(codes) < 2e4, decoded(codes)
    return model, batch


def check_recipe(name, half):
    """The loss and all gradients of one training step. Half precision has no numbers above 65504:
    there the gradients are finite at some scale of the loss, which Keras's optimiser finds."""
    import keras
    from keras import ops, tree

    model, x = extreme_model(name)
    tensors = tree.map_structure(ops.convert_to_tensor, x)
    for scale in (1.0, 2.0**-12, 2.0**-24) if half == "float16" else (1.0,):

        def loss():
            return scale * ops.cast(
                model.compute_loss(
                    x,
                    x["x"] if isinstance(x, dict) else x,
                    model(tensors, training=True),
                    None,
                    True,
                ),
                "float32",
            )

        value, found = value_and_gradients(loss, model.trainable_variables)
        assert math.isfinite(value), f"the loss is {value}"
        wrong = [
            v.path for v, g in zip(model.trainable_variables, found) if not np.isfinite(g).all()
        ]
        if not wrong:
            break
    assert not wrong, f"not finite: {wrong}"
    assert any(np.abs(g).max() > 0 for g in found)
    model.compile("adam", run_eagerly=True)  # compiling 26 models would test the compiler
    values, given = (x["x"], {"condition": np.arange(N) % 3}) if isinstance(x, dict) else (x, {})
    results = model.evaluate(values, verbose=0, return_dict=True, **given)
    assert all(math.isfinite(v) for v in results.values()), results
    assert np.isfinite(keras.ops.convert_to_numpy(model.reconstructions(tensors))).all()


def check_training(half):
    """Ten real steps from the extreme: no weight is lost, and at least one step was taken."""
    import keras

    model, x = extreme_model("vae")
    before = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
    model.compile(keras.optimizers.Adam(1e-2))
    losses = model.fit(x, epochs=10, verbose=0).history["loss"]
    after = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
    assert np.isfinite(losses).all() and all(np.isfinite(v).all() for v in after), losses
    assert any(not np.array_equal(a, b) for a, b in zip(before, after))


for name in recipes_of_each_kind():
    case(f"recipe: {name}", name)(check_recipe)
case("training")(check_training)


def chosen(backend, precision):
    """The names of the cases that are tested today."""
    part = 6 if (backend, precision) == (BACKENDS[0], "float32") else 12
    return some(CASES, len(CASES) // part, f"{backend} {precision}")


TESTS = [(b, p, name) for b in BACKENDS for p in ("float32", "mixed") for name in chosen(b, p)]


# What pytest sees


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    folder, env = tmp_path_factory.mktemp("numerics"), {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}

    def work(backend):
        done = subprocess.run(
            [sys.executable, __file__, backend, folder], capture_output=True, text=True, env=env
        )
        assert done.returncode == 0, done.stderr[-3000:]

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, BACKENDS))
    return {backend: json.loads((folder / f"{backend}.json").read_text()) for backend in BACKENDS}


@pytest.mark.parametrize("backend, precision, name", TESTS)
def test_extreme_numbers(failures, backend, precision, name):
    assert f"{name}, {precision}" not in failures[backend], failures[backend][
        f"{name}, {precision}"
    ]


def test_the_reference_is_scipys():
    """The two formulas that SciPy has for ordinary parameters only, there."""
    k, f, raw = np.arange(256), np.linspace(-4, 4, 256), np.linspace(-3, 3, 256)
    a, b = np.exp(raw) * special.expit(f), np.exp(raw) * special.expit(-f)
    np.testing.assert_allclose(
        log_beta_binomial(k / 255, f, raw), stats.betabinom.logpmf(k, 255, a, b), rtol=1e-9
    )

    def edge(j):
        return np.where(
            j == 0, 0, np.where(j == 256, 1, stats.logistic.cdf((j - 0.5) / 255, f, np.exp(raw)))
        )

    near = np.abs(f) < 1.5
    np.testing.assert_allclose(
        log_discretized_logistic(k / 255, f, raw)[near],
        np.log(edge(k + 1) - edge(k))[near],
        rtol=1e-7,
    )


def main():
    _, backend, folder, *wanted = sys.argv
    import keras

    assert keras.backend.backend() == backend
    failures = {}
    for precision, policy in (
        ("float32", "float32"),
        ("mixed", "mixed_bfloat16" if backend == "jax" else "mixed_float16"),
    ):
        keras.config.set_dtype_policy(policy)
        for name in chosen(backend, precision):
            if not name.startswith(tuple(wanted or [""])):
                continue
            keras.utils.set_random_seed(0)
            try:
                CASES[name](policy.removeprefix("mixed_"))
            except Exception:
                failures[f"{name}, {precision}"] = traceback.format_exc()
            keras.utils.clear_session()
    Path(folder, f"{backend}.json").write_text(json.dumps(failures))


if __name__ == "__main__":
    main()
