"""Models behind plain addresses: a folder that a server lists, one that it does not, one file; and buckets."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import huref
from huref.errors import AccessError, HurefError, MissingFileError, NetworkError
from kit.hostile_files import assert_complete
from kit.hub_server import Hub, folder_app, serving
from kit.hubs import forget, point_at

NAMES = ("base", "child")


@pytest.fixture
def folder(models, tmp_path) -> Path:
    for name in NAMES:
        shutil.copytree(models[name], tmp_path / "www" / name)
    (tmp_path / "www" / "base" / "README.md").write_text("# nothing")
    return tmp_path / "www"


@pytest.fixture(params=[True, False], ids=["listed", "unlisted"])
def web(request, folder, monkeypatch, tmp_path):
    """A server of one folder, and its address."""
    known = Hub()
    with serving(web=folder_app(known, folder, has_list=request.param)) as ports:
        known.ports = {"hub": ports["web"], "store": ports["web"]}
        point_at(known, monkeypatch, tmp_path)
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        forget()
        yield known
    forget()


def test_a_folder_with_ranges(web, models):
    here = huref.fingerprint(models["base"])
    there = huref.fingerprint(f"{web.endpoint}/base/")
    assert there.vector.tobytes() == here.vector.tobytes()
    assert there.model == "base"
    assert there.weights["origin"]["files"]["model.safetensors"]["digest"].startswith("tag:")
    assert huref.compare(f"{web.endpoint}/base", f"{web.endpoint}/child/").verdict == "derived"


def test_one_file_and_what_lies_beside_it(web, models):
    there = huref.fingerprint(f"{web.endpoint}/base/model.safetensors")
    assert there.vector.tobytes() == huref.fingerprint(models["base"]).vector.tobytes()


def test_shards_by_their_index(web, folder, models):
    import json

    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "base" / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for file, some in parts.items():
        save_file({name: tensors[name] for name in some}, folder / "base" / file)
    weight_map = {name: file for file, some in parts.items() for name in some}
    (folder / "base" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "base" / "model.safetensors").unlink()
    assert huref.fingerprint(f"{web.endpoint}/base/").vector.tobytes() == (
        huref.fingerprint(models["base"]).vector.tobytes()
    )


def test_a_saved_fingerprint(web, folder, models, tmp_path):
    made = huref.fingerprint(models["base"])
    huref.save_fingerprint(made, folder / "base.huref.safetensors")
    assert huref.load_fingerprint(f"{web.endpoint}/base.huref.safetensors") == made
    assert huref.compare(f"{web.endpoint}/base.huref.safetensors", models["child"]).a == "base"


def test_a_server_without_ranges(web, models):
    web.faults["no ranges"] = -1
    with pytest.raises(NetworkError) as caught:
        _large(web)
    assert_complete(caught.value)
    assert "--download" in caught.value.next_step
    folder = huref.download(f"{web.endpoint}/base/")
    assert huref.fingerprint(folder).vector.tobytes() == huref.fingerprint(models["base"]).vector.tobytes()
    forget()
    again = huref.fingerprint(f"{web.endpoint}/base/")
    assert again.vector.tobytes() == huref.fingerprint(models["base"]).vector.tobytes()


def _large(web: Hub) -> None:
    from huref.model.source.remote import http

    limit, http._SMALL = http._SMALL, 1000
    try:
        huref.fingerprint(f"{web.endpoint}/base/")
    finally:
        http._SMALL = limit
        forget()


def test_a_server_that_packs_what_it_sends(web):
    web.faults["gzip"] = -1
    with pytest.raises(NetworkError, match="gzip"):
        huref.fingerprint(f"{web.endpoint}/base/")


def test_one_byte_of_a_server_without_ranges(web):
    from huref.model.source.remote.http import Address, read_range

    web.faults["no ranges"] = -1
    with pytest.raises(NetworkError):
        read_range(Address(f"{web.endpoint}/base/config.json", "x"), 0, 1)


def test_a_server_without_tags_gives_nothing_to_keep(web, folder, models):
    web.faults["no tags"] = -1
    huref.fingerprint(f"{web.endpoint}/base/")
    shutil.copy(models["stranger"] / "model.safetensors", folder / "base" / "model.safetensors")
    forget()
    again = huref.fingerprint(f"{web.endpoint}/base/")
    assert again.vector.tobytes() == huref.fingerprint(models["stranger"]).vector.tobytes()


def test_an_endless_answer_is_cut(web):
    import io

    from huref.errors import CorruptFileError
    from huref.model.source.remote.http import Address, fetch_whole

    with pytest.raises(CorruptFileError, match=r"changed|more bytes"):
        fetch_whole(Address(f"{web.endpoint}/base/model.safetensors", "x", size=100), io.BytesIO())


def test_nothing_there(web):
    for address in ("/none/", "/base/other.safetensors"):
        with pytest.raises(MissingFileError) as caught:
            huref.fingerprint(f"{web.endpoint}{address}")
        assert_complete(caught.value)


def test_another_version_is_another_model(web, folder, models):
    first = huref.fingerprint(f"{web.endpoint}/base/")
    shutil.copy(models["stranger"] / "model.safetensors", folder / "base" / "model.safetensors")
    forget()
    second = huref.fingerprint(f"{web.endpoint}/base/")
    assert second.vector.tobytes() == huref.fingerprint(models["stranger"]).vector.tobytes()
    assert first.weights["origin"]["revision"] != second.weights["origin"]["revision"]


def test_pythons_own_server_gives_no_ranges(folder, monkeypatch, tmp_path):
    """Nobody's server but ours: `python -m http.server` lists files and ignores ranges."""
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline().split("port ")[1].split()[0])
        known = Hub(ports={"hub": port, "store": port})
        point_at(known, monkeypatch, tmp_path)
        forget()
        name = f"{known.endpoint}/base/"
        assert huref.fingerprint(name).model == "base"  # small files are read whole
    finally:
        server.terminate()
        server.wait()
        if server.stdout:
            server.stdout.close()
        forget()


@pytest.fixture(scope="module")
def bucket_server():
    """S3, as moto has it."""
    pytest.importorskip("obstore")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        until = time.time() + 20
        while server._server is None:
            assert time.time() < until
            time.sleep(0.02)
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def bucket(bucket_server, models, monkeypatch, tmp_path):
    import boto3

    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT": bucket_server,
        "AWS_ENDPOINT_URL": bucket_server,
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HUREF_NO_CACHE", raising=False)
    monkeypatch.setenv("HUREF_HOME", str(tmp_path / "huref"))
    client = boto3.client("s3", endpoint_url=bucket_server)
    client.create_bucket(Bucket="zoo")
    for name in ("base", "child"):
        for path in models[name].iterdir():
            client.upload_file(str(path), "zoo", f"some/models/{name}/{path.name}")
    forget()
    yield "s3://zoo/some/models"
    forget()


def test_a_bucket(bucket, models):
    there = huref.fingerprint(f"{bucket}/base")
    assert there.vector.tobytes() == huref.fingerprint(models["base"]).vector.tobytes()
    assert huref.compare(f"{bucket}/base/", f"{bucket}/child").verdict == "derived"
    assert huref.fingerprint(f"{bucket}/base/model.safetensors").model == "model"


def test_a_bucket_that_is_not_there(bucket):
    for name in ("s3://zoo/none", "s3://nobody/none"):
        with pytest.raises(MissingFileError) as caught:
            huref.fingerprint(name)
        assert caught.value.next_step


def test_a_store_that_does_not_answer(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("huref.model.source.remote.stores.RETRIES", {"max_retries": 0})
    with pytest.raises(HurefError) as caught:
        huref.fingerprint("s3://zoo/some/models/base")
    assert isinstance(caught.value, NetworkError | AccessError)
