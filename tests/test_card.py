"""Model cards: what a server reads, what a person reads, and what is refused."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from vaenb.card import card_text, write_card
from vaenb.cli import app


@pytest.fixture
def run(tmp_path):
    home = tmp_path / "run"
    home.mkdir()
    config = {
        "vaenb_run": 1,
        "settings": {"data": "digits", "model": "vae", "latent_dim": 2},
        "data": {"name": "digits", "image_shape": [8, 8, 1], "examples": {"train": 10, "test": 5}},
        "model": {"recipe": "vae", "prior": "StandardNormal()", "weights": 1234},
        "training": {"epochs": 3, "seconds": 1.0, "ended": "out of time"},
        "versions": {"vaenb": "0.1.0"},
    }
    (home / "config.json").write_text(json.dumps(config))
    (home / "model.keras").write_text("")
    return home


def test_a_card_has_what_servers_and_people_read(run):
    metrics = {"elbo": -12.3456789, "kl": 2.5, "n_samples": 50, "active_units": 2}
    (run / "metrics.json").write_text(json.dumps(metrics))
    (run / "codes.png").write_bytes(b"")
    text = write_card(run).read_text()
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head) == {"library_name": "keras", "tags": ["vaenb", "vae"]}
    assert "| ELBO, nats per example | -12.346 |" in body and "1,234 weights" in body
    assert "ended early: out of time" in body and "](codes.png)" in body
    assert "samples.png" not in body and "licence" in body


def test_what_was_not_measured_is_named(run):
    assert "Not measured yet" in card_text(run)


def test_a_card_that_exists_and_a_damaged_run_are_left_alone(run, tmp_path):
    def said(*command):
        result = CliRunner().invoke(app, list(map(str, command)), prog_name="vaenb")
        assert result.exit_code == 2 and result.output.strip().count("\n") == 0, result.output
        return result.output

    assert "there is no run folder" in said("card", tmp_path / "nothing")
    assert CliRunner().invoke(app, ["card", str(run)]).exit_code == 0
    (run / "README.md").write_text("mine")
    assert "is left as it is" in said("card", run)
    assert (run / "README.md").read_text() == "mine"
    (run / "README.md").unlink()
    config = json.loads((run / "config.json").read_text())
    del config["data"]
    (run / "config.json").write_text(json.dumps(config))
    assert "edited or damaged" in said("card", run)
    assert not (run / "README.md").exists()
