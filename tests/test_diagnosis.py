"""Every recipe can be diagnosed before it is trained: findings are sentences with numbers, and none
of them is a crash. `make test` diagnoses one recipe of each kind."""

import keras
import pytest
from thorough import recipes_of_each_kind

import vaenb
from vaenb.data import digits
from vaenb.diagnosis import show
from vaenb.network import dense


@pytest.mark.parametrize("name", recipes_of_each_kind())
def test_recipe(name):
    data = digits()
    keras.utils.set_random_seed(0)
    few = {"prior": vaenb.VampPrior(5)} if name == "vamp-vae" else {}
    found = vaenb.diagnose(
        vaenb.recipe(name, data, 3, network=dense([16]), **few), data, n_samples=20, n_examples=100
    )
    assert found, "random weights are no model"
    assert all(
        f.severity in ("error", "warning", "note") and f.evidence and f.remedy for f in found
    )
    assert "nan" not in show(found) and "not finite" not in show(found)
