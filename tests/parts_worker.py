"""Run by test_parts.py in processes of its own: puts recipes and random combinations of parts
through everything a model must do."""

import json
import os
import random
import sys
import traceback
from contextlib import nullcontext
from importlib.machinery import PathFinder

from thorough import THOROUGH, amount, recipes_to_check, some

SHAPES = ((12,), (8, 8, 1), (28, 28, 1), (25, 19, 3))
N_COMBINATIONS = 30
BATCH = amount(12, 20)  # of 24 examples: 20 leaves a smaller last batch, which is traced again
WHOLE = 60  # examples in whole batches: TensorFlow gives the last digit otherwise if traced anew
LIKELIHOODS = (
    ("Bernoulli", {}),
    ("Bernoulli", {"binarize": True}),
    ("ContinuousBernoulli", {}),
    ("Normal", {"sigma": "learned"}),
    ("Normal", {"sigma": "optimal"}),
    ("DiscretizedLogistic", {"levels": 16}),
    ("BetaBinomial", {"levels": 16}),
    ("Categorical", {"levels": 4}),
    ("Poisson", {}),
    ("NegativeBinomial", {}),
    ("ZeroInflatedNegativeBinomial", {}),
)
FLOW = {"n_layers": 2, "hidden": (8,)}
POSTERIORS = (
    ("DiagonalNormal", {}),
    ("FullNormal", {}),
    *(("FlowPosterior", {"flow": flow, **FLOW}) for flow in ("planar", "radial", "iaf")),
)
PRIORS = (
    ("StandardNormal", {}),
    ("MixtureOfNormals", {"n_components": 3}),
    ("VampPrior", {"n_components": 5}),
    ("FlowPrior", {"flow": "realnvp", **FLOW}),
)
OBJECTIVES = (
    ("ELBO", {"beta": 2.0, "warmup": 2}),
    ("ELBO", {"n_samples": 3, "kl": "sampled"}),
    ("FreeBits", {"floor": 0.1}),
    ("Capacity", {"capacity": 2.0, "gamma": 5.0}),
    ("StickingTheLanding", {}),
    ("IWAE", {"k": 4}),
    ("MIWAE", {"m": 2, "k": 2}),
    ("PIWAE", {"m": 2, "k": 2}),
    ("CIWAE", {"k": 4}),
    ("DReG", {"k": 4}),
    ("BetaTC", {}),
    ("DIP", {"version": 1}),
    ("DIP", {"version": 2}),
    ("InfoVAE", {"mmd_weight": 10.0}),
    ("WAE", {"mmd_weight": 10.0}),
)
SMALLER = {
    "vamp-vae": {"n_components": 5},
    "iwae": {"k": 5},
    "dreg-iwae": {"k": 5},
    "miwae": {"m": 2, "k": 3},
    "piwae": {"m": 2, "k": 3},
    "ciwae": {"k": 6},
    "vq-vae": {"n_codes": 8},
    "rq-vae": {"n_stages": 2, "n_codes": 8},
    "m2": {"n_categories": 3},
    "gm-vae": {"n_categories": 3},
}


def data_for(likelihood, shape, n=64):
    """Examples with some structure, in the likelihood's support."""
    import numpy as np

    rng = np.random.default_rng(0)
    size = int(np.prod(shape))
    chance = 1 / (1 + np.exp(-(2 * rng.normal(size=(n, 2)) @ rng.normal(size=(2, size)))))
    name, options = likelihood
    if name == "Bernoulli" and not options:
        x = rng.random((n, size)) < chance
    elif name in ("DiscretizedLogistic", "BetaBinomial", "Categorical"):
        x = np.round(chance * (options["levels"] - 1)) / (options["levels"] - 1)
    elif name in ("Poisson", "NegativeBinomial", "ZeroInflatedNegativeBinomial"):
        x = rng.poisson(5 * chance)
    elif name == "Normal":
        x = 3 * chance + 0.1 * rng.normal(size=(n, size))
    else:
        x = chance
    return x.reshape(n, *shape).astype("float32")


def fields(x):
    """What comes with the examples, by role."""
    return x if isinstance(x, dict) else {"x": x}


def rows(x, n):
    """The first n examples."""
    return {k: v[:n] for k, v in x.items()} if isinstance(x, dict) else x[:n]


def with_condition(x):
    """The examples with a label each, of three; labels that say something about x."""
    import numpy as np

    order = np.argsort(x.reshape(len(x), -1).sum(axis=1))
    labels = np.empty(len(x), int)
    labels[order] = np.arange(len(x)) * 3 // len(x)
    return {"x": x, "condition": labels}


def with_target(x):
    """The examples with a label for every second one of them."""
    import numpy as np

    labels = with_condition(x)["condition"]
    return {"x": x, "target": np.where(np.arange(len(x)) % 2, -1, labels)}


def under(model, n):
    """A condition for n codes, as a keyword argument in a dict; empty where the model has none."""
    return {"condition": [i % 3 for i in range(n)]} if model.condition is not None else {}


def part(spec):
    import vaenb

    name, options = spec
    return getattr(vaenb, name)(**options)


def combinations():
    """Thirty combinations that are not refused, every part in at least one of them, the same on
    each machine; and the refusals that were heard."""
    from vaenb import VAE, dense

    draw, found, refused, wanted = (
        random.Random(0),
        [],
        {},
        [*POSTERIORS, *PRIORS, *OBJECTIVES, *LIKELIHOODS],
    )
    while len(found) < N_COMBINATIONS:
        chosen = [draw.choice(group) for group in (LIKELIHOODS, POSTERIORS, PRIORS, OBJECTIVES)]
        if wanted:  # one part that has not had its turn
            for i, group in enumerate((LIKELIHOODS, POSTERIORS, PRIORS, OBJECTIVES)):
                if wanted[0] in group:
                    chosen[i] = wanted[0]
        likelihood, posterior, prior, objective = chosen
        shape, conv = draw.choice(SHAPES), draw.random() < 0.3
        try:
            VAE.for_data(
                data_for(likelihood, (4,)),
                3,
                network=dense([4]),
                likelihood=part(likelihood),
                posterior=part(posterior),
                prior=part(prior),
                objective=part(objective),
            )
        except ValueError as error:
            refused[f"{posterior[0]} {prior[0]} {objective[0]}"] = str(error)
            continue
        wanted = [spec for spec in wanted if spec not in chosen]
        found.append((likelihood, posterior, prior, objective, shape, conv and len(shape) == 3))
    assert not wanted, wanted
    return found, refused


def cases(combined):
    """Name -> (data, function that makes the model for data of any shape, likelihood)."""
    from vaenb import RECIPES, VAE, conv, dense, recipe

    made = {}
    for i, (name, row) in enumerate(RECIPES.items()):
        likelihood = (
            ("Normal", {"sigma": "optimal"})
            if name == "sigma-vae"
            else ("NegativeBinomial", {})
            if name == "nb-vae"
            else ("Bernoulli", {"binarize": True})
            if issubclass(row.model, VAE)
            else ("ContinuousBernoulli", {})
        )
        x = data_for(likelihood, SHAPES[i % len(SHAPES)])
        conditional = row.parts.get("condition") == "labels"
        x = with_condition(x) if conditional else x
        x = with_target(x) if name == "m2" else x
        own = {"likelihood": likelihood} if issubclass(row.model, VAE) else {}
        made[name] = (
            x,
            lambda x, name=name, own=own: recipe(
                name,
                x["x"] if isinstance(x, dict) else x,
                3,
                network=dense([16]),
                **({"condition": x["condition"]} if "condition" in fields(x) else {}),
                **SMALLER.get(name, {}),
                **{k: part(v) for k, v in own.items()},
            ),
            likelihood,
        )
    for i, (likelihood, posterior, prior, objective, shape, is_conv) in enumerate(combined):

        def make(x, parts=(likelihood, posterior, prior, objective), is_conv=is_conv):
            names = ("likelihood", "posterior", "prior", "objective")
            return VAE.for_data(
                x,
                3,
                network=conv((4,), hidden=8) if is_conv and x.ndim == 4 else dense([16]),
                **{name: part(spec) for name, spec in zip(names, parts)},
            )

        made[f"combination-{i:02d}"] = data_for(likelihood, shape), make, likelihood
    return made


def outputs(model, x, all_of_them=True):
    import numpy as np

    from vaenb import VAE, MixtureSampler

    out = {
        "encode": model.encode(x),
        "reconstruct": model.reconstruct(x),
        "decode": model.decode(np.ones((3, model.latent_dim)), **under(model, 3)),
    }
    if not all_of_them:
        return out
    out |= {
        f"evaluate/{k}": v
        for k, v in model.evaluate(x, batch_size=BATCH, verbose=0, return_dict=True).items()
    }
    if isinstance(model, VAE):
        out |= {
            "sample": model.sample(3, seed=1, **under(model, 3)),
            "log_likelihood": model.log_likelihood(x, n_samples=64),
        }
        out["predict"] = model.predict(x, batch_size=32, verbose=0)
    else:
        out |= {"sample": model.sample(3, seed=1, sampler=MixtureSampler(2).fit(model.encode(x)))}
    return {name: np.asarray(value) for name, value in out.items()}


def plain(config):
    return json.loads(
        json.dumps(config, default=lambda o: o.tolist() if hasattr(o, "tolist") else list(o))
    )


def strongest(model):
    """Schedules at their end, so that losses before and after training can be compared."""
    if model.objective is not None:
        model.objective.schedule(10**6)
    return model


def seeded(make, x):
    import keras

    keras.utils.set_random_seed(3)
    model = strongest(make(x))
    model.compile(keras.optimizers.Adam(3e-3))
    model.optimizer.build(model.trainable_variables)
    if keras.backend.backend() == "torch":  # it clears the gradients of what it knows
        known = {id(parameter) for parameter in model.parameters()}
        unknown = [v.path for v in model.trainable_variables if id(v.value) not in known]
        assert not unknown, f"PyTorch does not know {unknown}"
    return model


def one_after_the_other():
    """TensorFlow's operations in one order: side by side it adds three arrays or more beginning
    with whichever is free first, and the last digit is left to chance."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return nullcontext()
    from tensorflow.python.eager import context

    return context.function_executor_type("SINGLE_THREADED_EXECUTOR")


def judged(model, x):
    """The loss on whole batches; of InfoVAE minus the ELBO: a thousand times the distance of 20
    codes from the prior varies more than six epochs can change it."""
    found = model.evaluate(rows(x, WHOLE), batch_size=BATCH, verbose=0, return_dict=True)
    return -found["elbo"] if type(model.objective).__name__ == "InfoVAE" else found["loss"]


def train(make, x):
    """Trains from one seed as everybody does, and twice in one order.

    Returns the model, its first weights, the loss before, and the three histories.
    """
    import keras

    model, other = seeded(make, x), seeded(make, x)
    before = judged(model, x)
    variables, histories = [*model.variables, *model.optimizer.variables], []
    first = [keras.ops.convert_to_numpy(v) for v in variables]
    start = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
    assert all(
        (a == keras.ops.convert_to_numpy(b)).all() for a, b in zip(start, other.trainable_variables)
    ), "the same seed gave other weights"
    # The first without an order, to compare with; in `make test` the first of the others stands in.
    orders = [one_after_the_other] * 2
    for order in amount(orders, [nullcontext, *orders]):
        for variable, value in zip(variables, first):
            variable.assign(value)
        keras.utils.set_random_seed(4)  # of the order of the data
        with order():
            histories.append(model.fit(x, epochs=6, batch_size=16, verbose=0).history["loss"])
    return model, start, before, histories[0], *histories[-2:]


def check(name, x, make, likelihood, folder, policy):
    """Everything one model must do in the process that trains it; returns what a later process must
    find again. Without a `policy`, mixed precision is left out."""
    import keras
    import numpy as np

    from vaenb import VAE

    numpy, is_vae = keras.ops.convert_to_numpy, None
    for shape in some(SHAPES, 1, f"shapes of {name}"):  # any shape
        other = data_for(likelihood, shape)
        model = make(with_condition(other) if "condition" in fields(x) else other)
        assert model.built and model.image_shape == shape, shape
        given = keras.KerasTensor((5, *shape))
        if "condition" in fields(x):
            given = {"x": given, "condition": keras.KerasTensor((5, model.condition.dim))}
        spec = model(given)
        assert all(value.shape[0] == 5 for value in keras.tree.flatten(spec)), (
            spec
        )  # one row for each example
        assert model.decoder.output_shape[1:] == tuple(model.likelihood.feature_shape(shape))
    is_vae = isinstance(model, VAE)
    model, start, before, usual, history, again = train(make, x)
    assert np.isfinite(history).all(), history
    assert again == history, f"the same seed gave other losses: {again}, {history}"
    np.testing.assert_allclose(
        usual, history, rtol=1e-5 if keras.backend.backend() == "tensorflow" else 0
    )
    for variable, first in zip(model.trainable_variables, start):
        assert np.isfinite(numpy(variable)).all(), f"{variable.path} is not finite"
        drawn = type(
            getattr(model, "objective", None)
        ).__name__ == "WAE" and variable.path.endswith("logits")
        # (a sample's choice of component has no gradient)
        assert drawn or not np.array_equal(numpy(variable), first), (
            f"no gradient reached {variable.path}"
        )
    after = judged(strongest(model), x)
    # The loss of VAE-GAN is measured in features that the training itself changes.
    assert after < before or name == "vae-gan", f"the loss rose from {before} to {after}"
    again = type(model).from_config(model.get_config())
    assert plain(again.get_config()) == plain(model.get_config())
    assert [v.shape for v in again.weights] == [v.shape for v in model.weights]
    probe = rows(x, 24)
    if is_vae:
        batch = model.check_data(probe)
        assert tuple(model(batch)["loss"].shape) == (24,)
        out = model.run("pass_terms", batch)
        gap = model.log_likelihood(probe, n_samples=64) - (out["log_px_z"].mean(1) - out["kl"])
        assert gap.mean() > -4 * gap.std() / np.sqrt(len(gap)) - 1e-3, (
            f"the ELBO is above log p(x) by {-gap.mean()}"
        )
    model.save(os.path.join(folder, f"{name}.keras"))
    found = outputs(model, probe)
    if policy is None:
        return found
    keras.config.set_dtype_policy(policy)
    try:
        mixed = make(x)
        losses = mixed.fit(x, epochs=1, batch_size=32, verbose=0).history["loss"]
        assert np.isfinite(losses).all(), f"{policy}: {losses}"
        assert all(np.isfinite(numpy(v)).all() for v in mixed.trainable_variables), policy
    finally:
        keras.config.set_dtype_policy("float32")
    return found


def check_briefly(name, x, make):
    """That a model trains, and does so again after a round trip through its configuration: what
    `make test` asks of a recipe that it does not check whole."""
    import keras
    import numpy as np

    model = seeded(make, x)
    losses = model.fit(x, epochs=6, batch_size=16, verbose=0).history["loss"]
    assert np.isfinite(losses).all(), losses
    assert losses[-1] < losses[0] or name == "vae-gan", f"the loss did not fall: {losses}"
    assert all(np.isfinite(keras.ops.convert_to_numpy(v)).all() for v in model.variables)
    again = type(model).from_config(model.get_config())
    assert plain(again.get_config()) == plain(model.get_config())
    assert [v.shape for v in again.weights] == [v.shape for v in model.weights]
    return outputs(model, rows(x, 24), all_of_them=False)


def hide(packages):
    """Makes packages look as if they were not installed."""

    class Installed(PathFinder):
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            return None if name.split(".")[0] in packages else super().find_spec(name, path, target)

    sys.meta_path[sys.meta_path.index(PathFinder)] = Installed


def main():
    _, backend, task, folder, names, *blocked = sys.argv
    os.environ["KERAS_BACKEND"] = backend

    if backend == "jax" and not THOROUGH:  # compiling takes half the time
        os.environ["XLA_FLAGS"] = (
            os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
        )
    hide(blocked)
    import keras
    import numpy as np

    from vaenb import RECIPES

    policy, failures = {"jax": "mixed_bfloat16"}.get(backend, "mixed_float16"), {}
    mixed = names.split(",") if THOROUGH else some(recipes_to_check(), 1, "mixed precision")
    others = [] if THOROUGH else set(RECIPES) - set(recipes_to_check())
    with open(os.path.join(folder, "combinations.json")) as file:
        combined = json.load(file)
    for name, (x, make, likelihood) in cases(combined).items():
        if name not in names.split(","):
            continue
        try:
            if task == "train" and name in others:
                found = check_briefly(name, x, make)
            elif task == "train":
                found = check(name, x, make, likelihood, folder, policy if name in mixed else None)
            else:
                found = outputs(
                    keras.saving.load_model(os.path.join(folder, f"{name}.keras")),
                    rows(x, 24),
                    os.path.exists(os.path.join(folder, f"train.{backend}.json")),
                )
            np.savez(os.path.join(folder, f"{name}.{task}.{backend}.npz"), **found)
        except Exception:
            failures[name] = traceback.format_exc()
        keras.utils.clear_session()
        with open(os.path.join(folder, f"{task}.{backend}.json"), "w") as file:
            json.dump(failures, file)
    assert not any(name in sys.modules for name in blocked)


if __name__ == "__main__":
    main()
