"""Models on the Hugging Face Hub: saved and loaded through Keras's own support, with a folder in
the place of the Hub, and with a program that answers as the Hub does."""

import base64
import functools
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras.src.saving import saving_lib

from vaenb import VAE, Autoencoder, load_model
from vaenb.network import dense

X = np.random.default_rng(0).random((40, 6)).astype("float32")


@functools.cache
def model(kind=VAE):
    keras.utils.set_random_seed(0)
    made = kind.for_data(X, 2, network=dense([8]))
    made.compile(keras.optimizers.Adam(1e-3))
    made.fit(X, epochs=1, verbose=0)
    return made


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A module in the place of `huggingface_hub`, which keeps repositories in folders."""

    class HfApi:
        def __init__(self, **about):
            pass

        def create_repo(self, name, exist_ok):
            (tmp_path / name).mkdir(parents=True, exist_ok=exist_ok)
            return SimpleNamespace(repo_id=name)

        def upload_folder(self, repo_id, folder_path, commit_message):
            shutil.copytree(folder_path, tmp_path / repo_id, dirs_exist_ok=True)

    def snapshot_download(repo_id, **about):
        if not (tmp_path / repo_id).is_dir():
            raise OSError(f"404 Client Error.\n\nRepository {repo_id} not found\nmore")
        return str(tmp_path / repo_id)

    module = SimpleNamespace(HfApi=HfApi, snapshot_download=snapshot_download)
    monkeypatch.setattr(saving_lib, "huggingface_hub", module)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return tmp_path


@pytest.mark.parametrize("kind", [VAE, Autoencoder])
def test_a_model_comes_back_from_a_folder(hub, kind):
    saved = model(kind)
    saved.save("hf://me/digits")
    assert (hub / "me" / "digits" / "README.md").read_text().lstrip().startswith("---")
    loaded = load_model("hf://me/digits")
    assert type(loaded) is kind
    np.testing.assert_array_equal(loaded.encode(X), saved.encode(X))
    for ours, theirs in zip(loaded.get_weights(), saved.get_weights()):
        np.testing.assert_array_equal(ours, theirs)


def test_what_the_hub_does_not_have_is_one_sentence(hub):
    with pytest.raises(ConnectionError, match=r"hf://me/none cannot be downloaded \(404") as found:
        load_model("hf://me/none")
    assert "\n" not in str(found.value) and "hf auth login" in str(found.value)
    (hub / "me" / "empty").mkdir(parents=True)
    with pytest.raises(ConnectionError, match="config.json"):
        load_model("hf://me/empty")
    (hub / "me" / "empty" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="hf://me/empty cannot be read"):
        load_model("hf://me/empty")


def test_an_upload_that_fails_is_one_sentence(hub, monkeypatch):
    def fails(*words, **more):
        raise OSError("401 Client Error: you are not logged in\n\nmore")

    monkeypatch.setattr(saving_lib.huggingface_hub.HfApi, "create_repo", fails)
    with pytest.raises(ConnectionError, match="hf://me/digits cannot be uploaded .401"):
        model().save("hf://me/digits")


def test_the_package_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(saving_lib, "huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="huggingface_hub"):
        load_model("hf://me/digits")
    with pytest.raises(ImportError, match="huggingface_hub"):
        model().save("hf://me/digits")


@pytest.mark.parametrize("name", ["hf://digits", "hf://me/digits/2", "hf://", Path("hf://me/x")])
def test_a_name_that_the_hub_cannot_have_is_refused(name):
    with pytest.raises(ValueError, match="is not a name on the Hub"):
        load_model(name)
    with pytest.raises(ValueError, match="is not a name on the Hub"):
        model().save(name)


class Server(http.server.BaseHTTPRequestHandler):
    """What an upload of small files and a download ask of the Hub; files are kept in FILES."""

    files, name, commit = {}, "me/digits", "a" * 40

    def answer(self, content=None, status=200, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
        self.send_response(status)
        for key, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if self.path == "/api/repos/create":
            return self.answer({"url": f"{self.home}/{self.name}", "name": self.name})
        if self.path.endswith("/preupload/main"):
            asked = json.loads(body)["files"]
            plain = {"uploadMode": "regular", "shouldIgnore": False}
            return self.answer({"files": [{"path": f["path"], **plain} for f in asked]})
        if self.path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.files[value["path"]] = base64.b64decode(value["content"])
            found = {"commitUrl": f"{self.home}/{self.name}/commit/{self.commit}"}
            return self.answer({**found, "commitOid": self.commit, "success": True})
        self.answer(status=404)

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path.startswith(f"/api/models/{self.name}/revision/"):
            known = [{"rfilename": name} for name in self.files]
            return self.answer({"id": self.name, "sha": self.commit, "siblings": known})
        if path.startswith(f"/api/models/{self.name}/tree/"):
            rows = [
                {"type": "file", "path": k, "size": len(v), "oid": "0" * 40}
                for k, v in self.files.items()
            ]
            return self.answer(rows)
        name = path.removeprefix(f"/{self.name}/resolve/{self.commit}/")
        if name in self.files:
            content = self.files[name]
            tag = f'"{hashlib.sha1(content).hexdigest()}"'
            return self.answer(content, ETag=tag, X_Repo_Commit=self.commit)
        self.answer({"error": "not found"}, 404)

    do_HEAD = do_GET

    def log_message(self, *words):
        pass


def test_a_model_goes_to_a_server_and_comes_back(tmp_path):
    """In processes of their own, because the package reads its address when it is imported."""
    pytest.importorskip("huggingface_hub")
    saved = model()
    saved.save(tmp_path / "model.keras")
    code = "import sys; from vaenb import load_model; load_model(sys.argv[1]).save(sys.argv[2])"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        Server.home = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        offline = {"HF_ENDPOINT": Server.home, "HF_HOME": str(tmp_path / "cache")}
        offline |= {"HF_TOKEN": "hf_made_up", "HF_HUB_DISABLE_XET": "1", "no_proxy": "*"}
        env = {**os.environ, **offline, "TF_CPP_MIN_LOG_LEVEL": "3"}
        for words in (("model.keras", "hf://me/digits"), ("hf://me/digits", "back.keras")):
            command = [sys.executable, "-c", code, *words]
            done = subprocess.run(
                command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=600
            )
            assert done.returncode == 0, done.stderr[-2000:]
        server.shutdown()
    assert {"config.json", "metadata.json", "model.weights.h5", "README.md"} <= set(Server.files)
    back = load_model(tmp_path / "back.keras")
    np.testing.assert_array_equal(back.encode(X), saved.encode(X))
