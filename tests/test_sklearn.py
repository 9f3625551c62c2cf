"""scikit-learn's own checks of the estimators, pipelines, searches, frames and pickles, on every
backend. `make test` takes a few of scikit-learn's checks, `make test-all` every one."""

import os
import pickle

import keras
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator
from thorough import THOROUGH, run_on, some

from vaenb import DiscretizedLogistic
from vaenb.sklearn import VAEDetector, VAEImputer, VAETransformer, one_standard_error

BACKEND = keras.backend.backend()
ESTIMATORS = {kind.__name__: kind for kind in (VAETransformer, VAEImputer, VAEDetector)}
FAST = {"epochs": 2, "hidden": (4,), "n_samples": 3}
X = np.random.default_rng(0).normal(size=(40, 3))


@pytest.fixture
def eager():
    """Runs TensorFlow's functions as plain Python: scikit-learn's checks fit hundreds of tiny
    models, for each of which a compilation takes seconds. Everything else here is compiled."""
    if BACKEND != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.skipif("VAENB_INNER" in os.environ, reason="this is the inner run")
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_on_the_other_backend(backend):
    chosen = [] if THOROUGH else ["-k", "pickle or pipeline"]
    if backend == BACKEND or not run_on(backend, __file__, *chosen):
        pytest.skip(f"{backend} is this backend, or is not installed")


def checks(name):
    """(label, check) of each of scikit-learn's checks; no failure is expected of any of them."""
    for estimator, check in estimator_checks_generator(ESTIMATORS[name](**FAST)):
        function = getattr(check, "func", check)
        options = "".join(f" {k}={v}" for k, v in getattr(check, "keywords", {}).items())
        yield f"{function.__name__}{options}", estimator, check


CHECKS = [
    (name, label)
    for name in ESTIMATORS
    for label in some([label for label, *_ in checks(name)], 4, f"sklearn {name}")
]


@pytest.mark.parametrize("name, label", CHECKS)
def test_scikit_learn_check(name, label, eager):
    estimator, check = next((e, c) for found, e, c in checks(name) if found == label)
    check(estimator)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_pickle_holds_the_model(name):
    fitted = ESTIMATORS[name](random_state=1, **FAST).fit(X)
    again = pickle.loads(pickle.dumps(fitted))
    method = "score_samples" if name == "VAEDetector" else "transform"
    rows = np.where(np.eye(40, 3) > 0, np.nan, X) if name == "VAEImputer" else X
    assert np.array_equal(getattr(again, method)(rows), getattr(fitted, method)(rows))
    assert not hasattr(clone(fitted), "model_") and clone(again).get_params() == again.get_params()
    if name == "VAETransformer":  # a fit is repeated by its seed, and the global seeds are left
        state = np.random.get_state()[1].copy()
        repeated = clone(fitted).fit(X).transform(X)
        assert np.array_equal(repeated, fitted.transform(X))
        assert np.array_equal(state, np.random.get_state()[1])
        assert not np.allclose(
            clone(fitted).set_params(random_state=2).fit(X).transform(X), repeated
        )


def test_pipeline_with_columns_and_search():
    rows = np.column_stack([X.astype(object), np.array(["a", "b"])[np.arange(40) % 2]])
    prepare = ColumnTransformer(
        [("numbers", StandardScaler(), [0, 1, 2]), ("kind", OneHotEncoder(), [3])]
    )
    pipeline = make_pipeline(prepare, VAETransformer(scale=False, random_state=0, **FAST))
    grid = {"vaetransformer__latent_dim": [1, 2]}
    search = GridSearchCV(pipeline, grid, cv=2, refit=one_standard_error).fit(rows)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    codes = search.best_estimator_.transform(rows)
    assert codes.shape == (40, search.best_params_["vaetransformer__latent_dim"])
    back = search.best_estimator_[-1].inverse_transform(codes)
    assert back.shape == (40, 5)


def test_frames_keep_their_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c"], index=np.arange(40) + 7)
    codes = VAETransformer(random_state=0, **FAST).set_output(transform="pandas").fit(frame)
    codes = codes.transform(frame)
    assert list(codes.columns) == ["vaetransformer0", "vaetransformer1"]
    assert list(codes.index) == list(frame.index)
    frame.iloc[0, 1] = np.nan
    imputer = VAEImputer(random_state=0, **FAST).set_output(transform="pandas")
    filled = imputer.fit_transform(frame)
    assert list(filled.columns) == ["a", "b", "c"] and not filled.isna().any().any()
    with pytest.raises(ValueError, match="feature names"):
        imputer.transform(frame[["b", "a", "c"]])


def test_a_likelihood_of_your_own_is_left_as_it_is():
    levels = np.random.default_rng(0).integers(0, 4, size=(40, 3)) / 3
    given = DiscretizedLogistic(4)
    vae = VAETransformer(likelihood=given, random_state=0, **FAST)
    first, second = vae.fit(levels).score(levels), clone(vae).fit(levels).score(levels)
    assert first == second <= 0 and given.event_shape is None  # a probability, not a density
    drawn = vae.sample(50, random_state=0)
    assert np.allclose(drawn * 3, np.round(drawn * 3), atol=1e-5)
    assert np.array_equal(drawn, vae.sample(50, random_state=0))


def test_false_alarms_of_the_conformal_detector():
    """The number of alarms among new clean rows is beta-binomial; 99.99 % of it is allowed."""
    from scipy import stats

    rng = np.random.default_rng(0)
    clean, new = rng.normal(size=(400, 3)), rng.normal(size=(2000, 3))
    detector = VAEDetector(
        contamination=0.1, threshold="conformal", calibration=0.5, random_state=0, **FAST
    )
    alarms = (detector.fit(clean).predict(new) == -1).sum()
    law = stats.betabinom(2000, 20, 181)
    assert law.ppf(5e-5) <= alarms <= law.ppf(1 - 5e-5)
    far = detector.predict(new + 10)
    assert (far == -1).all()
