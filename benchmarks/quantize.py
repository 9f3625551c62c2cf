"""Quantised autoencoders on MNIST by the protocol of Keras's VQ-VAE example: a map of 7 x 7 tokens
of 128 codes with 16 numbers each, 30 epochs of batches of 128, then a density over the tokens.

    python benchmarks/quantize.py                  # VectorQuantizer, the whole protocol
    python benchmarks/quantize.py --quantizer fsq  # fixed levels with at least as many bits
    python benchmarks/quantize.py --budget tiny    # digits, a few epochs: whether it works

Measured on the test images: the squared error divided by the variance of the training pixels
(published: 0.0444), -log p of the tokens in nats per code (published, with a PixelCNN: 1.0336),
the perplexity and the share of codes that are used. The example trains on (x / 255) - 0.5, which
differs from ours in a bias only; its loss is the squared error over the variance plus 0.25 times
the mean commitment, which is ours divided by 784.

The record is printed; --out writes it to a file. vaenb/records/quantize-vq-128-SEED.json are the
whole protocol; quantize-vq-32-0.json has --n-codes 32 --sampler-epochs 4 --backend tensorflow."""

import argparse
import json
import os
import time
from pathlib import Path

import machine

PUBLISHED = {
    "squared error over variance": 0.0444,
    "nats per code": 1.0336,
    "source": "https://keras.io/examples/generative/vq_vae/",
}
BUDGETS = {
    "full": {"data": "mnist", "epochs": 30, "filters": [32, 64], "sampler": {"epochs": 30}},
    "reduced": {"data": "mnist", "epochs": 3, "filters": [32, 64], "sampler": {"epochs": 3}},
    "tiny": {"data": "digits", "epochs": 2, "filters": [16], "sampler": {"epochs": 2}},
}
SAMPLER = {"width": 128, "n_layers": 4, "n_heads": 4, "learning_rate": 1e-3}


def parts(name, shape, filters, n_codes):
    """The code's shape, and the bottleneck; only "vq" may have another number of codes."""
    from vaenb import quantize
    from vaenb.network import halvings

    places = tuple(halvings(side, len(filters))[-1] for side in shape[:2])
    return {
        "vq": lambda: ((*places, 16), quantize.VectorQuantizer(n_codes)),
        "fsq": lambda: ((*places, 3), quantize.FiniteScalarQuantizer((6, 5, 5))),
        "rq": lambda: ((*places, 16), quantize.ResidualQuantizer(2, 12)),
    }[name]()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quantizer", choices=("vq", "fsq", "rq"), default="vq")
    parser.add_argument("--budget", choices=BUDGETS, default="full")
    parser.add_argument("--n-codes", type=int, default=128, help="of VectorQuantizer")
    parser.add_argument("--sampler-epochs", type=int, help="in place of those of the budget")
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "jax"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    os.environ["KERAS_BACKEND"] = given.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    import keras
    import numpy as np

    import vaenb
    from vaenb.token import TokenSampler, conv_map

    budget = {**BUDGETS[given.budget]}
    if given.sampler_epochs:
        budget["sampler"] = {"epochs": given.sampler_epochs}
    data = getattr(vaenb.data, budget["data"])()
    x, test = np.asarray(data.train.x), np.asarray(data.test.x)
    variance = float(x.var(dtype="float64"))
    keras.utils.set_random_seed(given.seed)
    latent_dim, bottleneck = parts(given.quantizer, x.shape[1:], budget["filters"], given.n_codes)
    model = vaenb.Autoencoder.for_data(
        x,
        latent_dim,
        network=conv_map(budget["filters"]),
        likelihood=vaenb.Normal(float(np.sqrt(variance / 2))),
        bottleneck=bottleneck,
    )
    model.compile(keras.optimizers.Adam(1e-3))
    begin = time.perf_counter()
    history = model.fit(x, batch_size=128, epochs=budget["epochs"], verbose=2).history
    seconds = time.perf_counter() - begin
    use = model.evaluate(test, batch_size=500, verbose=0, return_dict=True)
    error = float(((model.reconstruct(test) - test) ** 2).mean(dtype="float64"))

    begin = time.perf_counter()
    sampler = TokenSampler(model.bottleneck.n_codes, **{**SAMPLER, **budget["sampler"]})
    sampler.fit(model.tokens(x))
    tokens = model.tokens(test)
    nats = -sampler.log_prob(tokens)
    per_code = nats / tokens[0].size
    record = {
        "quantizer": repr(bottleneck),
        "code": list(model.code_shape),
        "bits of a code": bottleneck.bits,
        "budget": {"name": given.budget, **budget, "batch_size": 128},
        "seed": given.seed,
        "found": {
            "squared error over variance": error / variance,
            "nats per code": float(per_code.mean()),
            "standard error of nats per code": float(per_code.std() / len(per_code) ** 0.5),
            "nats per image": float(nats.mean()),
            "perplexity": float(use["perplexity"]),
            "codes used": float(use["codes_used"]),
            "last loss": float(history["loss"][-1]),
        },
        "published": PUBLISHED if given.quantizer == "vq" and budget["data"] == "mnist" else None,
        "seconds": {"model": round(seconds, 1), "sampler": round(time.perf_counter() - begin, 1)},
        **machine.facts("vaenb"),
    }
    text = json.dumps(record, indent=1)
    if given.out is not None:
        given.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
