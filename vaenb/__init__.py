"""A book you can pip install: autoencoders and variational autoencoders in Keras."""
__version__ = "0.1.0"

import importlib
import importlib.util

from .backend import watch_keras

# What most users need, by the chapter that defines it. Nothing is imported before it is asked for,
# so `import vaenb` costs neither Keras nor matplotlib.
_NAMES = {
    "autoencoder": ["Autoencoder"],
    "vae": ["VAE", "VariationalAutoencoder", "DiagonalNormal", "StandardNormal", "ELBO"],
    "objective": [
        *("FreeBits", "Capacity", "IWAE", "MIWAE", "PIWAE", "CIWAE", "StickingTheLanding", "DReG")
    ],
    "aggregate": ["BetaTC", "DIP", "InfoVAE", "WAE"],
    "adversary": ["FactorVAE", "AAE", "VAEGAN", "two_optimizers", "total_correlation"],
    "prior": ["MixtureOfNormals", "VampPrior", "FlowPrior", "ConditionalNormal"],
    "posterior": ["FullNormal", "FlowPosterior"],
    "sphere": ["PowerSpherical", "UniformSphere"],
    "bottleneck": ["TopK", "BatchTopK", "JumpReLU", "Matryoshka", "dictionary"],
    "quantize": ["VectorQuantizer", "FiniteScalarQuantizer", "ResidualQuantizer"],
    "token": ["TokenSampler", "conv_map"],
    "hierarchy": [
        *("bottom_up", "ladder", "LevelFreeBits", "PrecisionWeighted", "level_kl"),
        *("encode_levels", "decode_levels"),
    ],
    "condition": ["Given", "class_log_prob", "class_posterior", "transfer"],
    "categorical": ["CategoricalVAE", "ComponentNormal", "SemiSupervised", "responsibilities"],
    "sampler": ["MixtureSampler", "FlowSampler", "TwoStageSampler", "NeighbourSampler"],
    "recipes": ["recipe", "RECIPES", "load_model"],
    "likelihood": [
        *("Bernoulli", "ContinuousBernoulli", "Normal", "DiscretizedLogistic", "BetaBinomial"),
        *("Categorical", "Poisson"),
    ],
    "count": ["NegativeBinomial", "ZeroInflatedNegativeBinomial"],
    "colour": ["DiscretizedLogisticMixture", "patches"],
    "columns": ["Columns"],
    "table": ["Table", "from_table", "to_frame"],
    "missing": ["impute"],
    "series": ["conv1d", "windows", "pad_series"],
    "feature": ["probe_accuracy"],
    "compression": ["compress", "decompress"],
    "lossy": ["ScaleHyperprior", "start_linear", "compress_lossy", "decompress_lossy"],
    "network": ["dense", "conv", "resnet"],
    "training": ["fit_resumable"],
    "tracking": ["tracked"],
    "monitor": ["Monitor"],
    "diagnosis": ["diagnose"],
    "disentanglement": ["disentanglement_scores", "unit_factors"],
    "generation": [
        *("frechet_distance", "kernel_distance", "jackknife", "neighbour_scores"),
        *("two_sample_test", "memorisation"),
    ],
    "data": ["Dataset"],
    "explorer": ["LatentExplorer"],
    "anomaly": ["anomaly_score", "conformal_p_values", "conformal_threshold"],
    "sklearn": ["VAETransformer", "VAEImputer", "VAEDetector"],
    "baseline": ["baselines"],
    "candidate": ["choose_model"],
    "report": ["report_file"],
}
_CHAPTER = {name: chapter for chapter, names in _NAMES.items() for name in names}
__all__ = ["__version__", *_CHAPTER]

watch_keras()  # chooses the backend when Keras is imported, and lets it find our classes in files


def __getattr__(name):
    if name in _CHAPTER:
        return getattr(importlib.import_module(f"vaenb.{_CHAPTER[name]}"), name)
    if not name.startswith("_") and importlib.util.find_spec(f"vaenb.{name}"):
        return importlib.import_module(f"vaenb.{name}")
    raise AttributeError(f"module 'vaenb' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_CHAPTER})
