"""What a record says of where it was made."""

import importlib.metadata
import os
import platform
import sys
import time


def device():
    """What the backend calls the device that it runs on, such as "cpu" or the name of a GPU."""
    import keras

    name = keras.backend.backend()
    module = sys.modules[name]
    if name == "jax":
        return module.devices()[0].device_kind
    if name == "torch":
        return module.cuda.get_device_name(0) if module.cuda.is_available() else "cpu"
    gpus = module.config.list_physical_devices("GPU")
    if not gpus:
        return "cpu"
    return module.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")


def facts(*packages):
    """Backend, device, processor, versions and date, a dict.

    - `*packages`: names of packages whose versions count, besides Keras, NumPy and the backend
    """
    import keras

    backend = keras.backend.backend()
    versions = {p: importlib.metadata.version(p) for p in ("keras", "numpy", backend, *packages)}
    return {
        "backend": backend,
        "device": device(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {**versions, "python": platform.python_version()},
        "date": time.strftime("%Y-%m-%d"),
    }
