"""A book you can pip install: autoencoders and variational autoencoders in Keras."""
__version__ = "0.1.0"

import importlib
import importlib.util

# What most users need, by the chapter that defines it. Nothing is imported before it is asked for,
# so `import vaenb` costs neither Keras nor matplotlib.
_CHAPTER = {
    "Autoencoder": "autoencoder",
    **dict.fromkeys(("VAE", "VariationalAutoencoder", "DiagonalNormal", "StandardNormal", "ELBO"), "vae"),
    **dict.fromkeys(("FreeBits", "Capacity", "IWAE", "MIWAE", "PIWAE", "CIWAE", "StickingTheLanding", "DReG"), "objective"),
    **dict.fromkeys(("BetaTC", "DIP", "InfoVAE", "WAE"), "aggregate"),
    **dict.fromkeys(("MixtureOfNormals", "VampPrior", "FlowPrior"), "prior"),
    **dict.fromkeys(("FullNormal", "FlowPosterior"), "posterior"),
    **dict.fromkeys(("MixtureSampler", "FlowSampler", "TwoStageSampler", "NeighbourSampler"), "sampler"),
    **dict.fromkeys(("recipe", "RECIPES", "load_model"), "recipes"),
    **dict.fromkeys(("Bernoulli", "ContinuousBernoulli", "Normal", "DiscretizedLogistic", "BetaBinomial", "Categorical", "Poisson"), "likelihood"),
    **dict.fromkeys(("dense", "conv", "resnet"), "network"),
    "fit_resumable": "training",
    "Monitor": "monitor",
    "diagnose": "diagnosis",
    "Dataset": "data",
    "LatentExplorer": "explorer",
}
_SAVEABLE = ("likelihood", "autoencoder", "vae", "objective", "aggregate", "prior", "posterior")  # what a saved model may consist of
__all__ = ["__version__", *_CHAPTER]


def __getattr__(name):
    if name in _CHAPTER:
        if _CHAPTER[name] in _SAVEABLE:  # so that Keras finds all parts of a file, whichever of them was imported by name
            for chapter in _SAVEABLE: importlib.import_module(f"vaenb.{chapter}")
        return getattr(importlib.import_module(f"vaenb.{_CHAPTER[name]}"), name)
    if not name.startswith("_") and importlib.util.find_spec(f"vaenb.{name}"):
        return importlib.import_module(f"vaenb.{name}")
    raise AttributeError(f"module 'vaenb' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_CHAPTER})
