"""Models on a hub: the true client and a true server; the same result as from a folder, and few of the bytes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import huref
from huref.errors import AccessError, MissingFileError, NetworkError, UnsafeFileError, UsageError
from huref.fingerprints.sets import model_set
from huref.model.source import open_checkpoint
from huref.model.source.remote import mirror, segments
from huref.model.source.remote.cost import COST
from huref.model.source.remote.naming import RemoteName
from kit.hub_server import COMMIT, Hub, Repository, Virtual, digest, hub_running
from kit.hubs import again, hub

__all__ = ["again", "hub"]


@pytest.fixture
def published(hub, models):
    """The family of tiny models, on the hub."""
    for name, folder in models.items():
        hub.add(f"acme/{name}", folder)
    return hub


def test_a_fingerprint_is_that_of_the_folder(published, models):
    here, there = huref.fingerprint(models["base"]), huref.fingerprint("acme/base")
    assert here.vector.tobytes() == there.vector.tobytes()
    assert all(there.sketches[key].tobytes() == sketch.tobytes() for key, sketch in here.sketches.items())
    origin = there.weights["origin"]
    assert (origin["reference"], origin["revision"]) == ("acme/base", COMMIT)
    assert origin["files"]["model.safetensors"]["digest"].startswith("sha256:")
    assert origin["files"]["model.safetensors"]["size"] == (models["base"] / "model.safetensors").stat().st_size
    assert there.model == "base"
    assert "origin" not in here.weights


def test_a_saved_one_keeps_where_it_came_from(published, tmp_path):
    path = tmp_path / "base.huref.safetensors"
    made = huref.fingerprint("acme/base@v1")
    huref.save_fingerprint(made, path)
    assert huref.load_fingerprint(path) == made


def test_comparisons_are_those_of_folders(published, models):
    for other in ("child", "stranger", "rounded"):
        here = huref.compare(models["base"], models[other])
        there = huref.compare("acme/base", f"acme/{other}")
        assert there.verdict == here.verdict
        assert there.to_dict()["scores"] == here.to_dict()["scores"] if "scores" in here.to_dict() else True
        assert str(there).replace("acme/", "") == str(here)


def test_one_model_here_and_one_there(published, models):
    assert (
        huref.compare(models["base"], "acme/child").verdict == huref.compare(models["base"], models["child"]).verdict
    )
    assert huref.compare("acme/base", models["copy"]).verdict == "identical"


def test_copies_are_known_by_their_digests(published):
    before = COST.received
    found = huref.compare("acme/base", "acme/copy")
    assert found.verdict == "identical"
    ranges = [
        asked for host, _, path, asked in published.requests if host == "store" and path.endswith(".safetensors")
    ]
    assert len(ranges) <= 4  # headers, and what is looked at for damage
    assert COST.received - before < 2_000_000


def test_blocks_are_kept_and_results_too(published, again, models):
    huref.compare("acme/base", "acme/child", cache=True)
    again()
    huref.compare("acme/base", "acme/child")
    assert not [1 for host, *_ in published.requests if host == "store"]  # blocks
    again()
    cache = huref.Cache()
    huref.compare("acme/base", "acme/child", cache=cache)
    assert cache.n_kept == 1
    assert {path for _, _, path, _ in published.requests} == {
        f"/api/models/acme/{name}{end}" for name in ("base", "child") for end in ("", f"/tree/{COMMIT}")
    }


def test_damaged_blocks_are_fetched_again(published, again):
    made = huref.fingerprint("acme/base")
    again()
    for path in segments.blocks_folder().rglob("*.seg"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data[:-7])
    assert huref.fingerprint("acme/base").vector.tobytes() == made.vector.tobytes()
    assert [1 for host, *_ in published.requests if host == "store"]


def test_without_a_cache_nothing_is_kept(published, again, monkeypatch):
    monkeypatch.setenv("HUREF_NO_CACHE", "1")
    huref.fingerprint("acme/base")
    assert not segments.blocks_folder().exists()


def test_blocks_are_bounded(published, monkeypatch):
    huref.fingerprint("acme/base")
    monkeypatch.setenv("HUREF_BLOCKS_LIMIT", "1K")
    huref.fingerprint("acme/stranger")
    assert [each.shown for each in segments.kept()] == ["acme/stranger, model.safetensors"]
    assert segments.prune(0) > 0
    assert segments.kept() == []


def test_gated_and_private_models(hub, models, monkeypatch):
    hub.add("acme/gated", models["base"], gated=True)
    hub.add("acme/private", models["base"], private=True)
    with pytest.raises(AccessError) as caught:
        huref.fingerprint("acme/gated")
    assert caught.value.exit_code == 5
    assert "HF_TOKEN" in caught.value.next_step
    with pytest.raises(MissingFileError, match="or a private one"):
        huref.fingerprint("acme/private")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    for name in ("gated", "private"):
        assert huref.fingerprint(f"acme/{name}").model == name
    assert hub.tokens == {"hub": {f"Bearer {hub.token}"}}  # and the store never saw it


def test_a_token_goes_over_no_open_network(hub, models, monkeypatch):
    from huref.model.source.remote.http import may_have_token

    assert may_have_token("https://hub/x", "https://hub/y")
    for meant, url in [
        ("https://hub/x", "http://hub/x"),
        ("https://hub/x", "https://hub:8443/x"),
        ("https://hub/x", "https://hub.evil/x"),
        ("http://hub/x", "http://hub/x"),
    ]:
        assert not may_have_token(meant, url)


def test_a_branch_a_tag_a_commit(published):
    assert huref.fingerprint(f"acme/base@{COMMIT}").model == f"base@{COMMIT[:12]}"
    assert all("/revision/" not in path and path != "/api/models/acme/base" for _, _, path, _ in published.requests)
    with pytest.raises(MissingFileError, match="no such revision"):
        huref.fingerprint("acme/base@v9")


def test_names_that_are_not_there(published, tmp_path):
    (tmp_path / "hub" / "models--acme--stranger").mkdir(parents=True)
    with pytest.raises(MissingFileError) as caught:
        huref.fingerprint("acme/strangr")
    assert "acme/stranger" in str(caught.value)
    with pytest.raises(MissingFileError, match=r"model\.safetensors"):
        huref.fingerprint("acme/base:Q4_K_M")
    with pytest.raises(UsageError):
        huref.fingerprint("acme/na--me..x")


def test_a_repository_without_weights(hub, models):
    hub.repositories["acme/empty"] = Repository({"config.json": models["base"] / "config.json"})
    with pytest.raises(MissingFileError, match="no weights"):
        huref.fingerprint("acme/empty")
    hub.repositories["acme/none"] = Repository({})
    with pytest.raises(MissingFileError, match="no weights"):
        huref.fingerprint("acme/none")


@pytest.mark.parametrize("name", ["../../outside.json", "/etc/passwd", "a\\b.json", "a/../b.json", "x\0.json", "c:x"])
def test_listings_that_lead_outside(hub, models, name, tmp_path):
    hub.add("acme/hostile", models["base"], listed=(name,))
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UnsafeFileError, match="outside"):
        huref.fingerprint("acme/hostile")
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before


def test_pages_of_a_long_listing(hub, models):
    repository = hub.add("acme/long", models["base"])
    first = {f"images/{number:04d}.png": models["base"] / "config.json" for number in range(130)}
    repository.files = first | repository.files
    assert huref.fingerprint("acme/long").model == "long"


def test_offline_takes_what_the_hub_keeps(published, models, again, monkeypatch, tmp_path):
    from huggingface_hub import snapshot_download

    snapshot_download("acme/base", cache_dir=tmp_path / "hub", endpoint=published.endpoint)
    again()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert huref.fingerprint("acme/base").vector.tobytes() == huref.fingerprint(models["base"]).vector.tobytes()
    assert published.requests == []
    with pytest.raises(NetworkError) as caught:
        huref.fingerprint("acme/child")
    assert caught.value.exit_code == 6


def test_the_hubs_own_cache_goes_first(published, again, tmp_path):
    from huggingface_hub import snapshot_download

    snapshot_download("acme/base", cache_dir=tmp_path / "hub", endpoint=published.endpoint)
    again()
    huref.fingerprint("acme/base")
    assert not [1 for host, *_ in published.requests if host == "store"]


def test_a_download_is_whole_and_stays(published, again, models):
    folder = huref.download("acme/base")
    assert (folder / "model.safetensors").read_bytes() == (models["base"] / "model.safetensors").read_bytes()
    again()
    assert huref.fingerprint("acme/base").vector.tobytes() == huref.fingerprint(models["base"]).vector.tobytes()
    assert not [1 for host, *_ in published.requests if host == "store"]
    assert huref.download(models["base"]) == models["base"]


def test_what_stands_for_a_model_is_found_again(published, again):
    folder = open_checkpoint("acme/base").folder
    head = (folder / "model.safetensors").read_text()
    assert head.startswith("huref: this stands for")
    again()
    assert huref.fingerprint(folder).model == "base"


def test_a_stand_in_cannot_make_itself_one(tmp_path, models, published, again):
    """A file that says it stands for another is a file; only what this process found is read from afar."""
    folder = open_checkpoint("acme/base").folder
    text = (folder / "model.safetensors").read_text()
    again()
    fake = tmp_path / "fake"
    fake.mkdir()
    (fake / "config.json").write_bytes((models["base"] / "config.json").read_bytes())
    (fake / ".huref-origin.json").write_bytes((folder / ".huref-origin.json").read_bytes())
    (fake / "model.safetensors").write_text(text)
    with pytest.raises(huref.HurefError, match="name the model itself"):
        open_checkpoint(fake)
    assert published.requests == []


def test_the_command_line(published, tmp_path, models):
    """A process of its own, as a user runs it."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    env |= {"HF_HOME": str(tmp_path / "hf")}
    env |= {"HF_ENDPOINT": published.endpoint, "HUREF_HOME": str(tmp_path / "cli"), "COLUMNS": "200"}
    command = [sys.executable, "-m", "huref", "compare", "acme/base", "acme/child"]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "base  ~  child" in ran.stdout
    assert "verdict: derived" in ran.stdout
    assert "requests" in ran.stderr
    command[3:] = ["fingerprint", "acme/none"]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ran.returncode == 4
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(("name", "tables"), [("offspring_models", 7), ("llama_family_models", 1)])
def test_the_papers_sets(hub, models, cli, name, tables):
    """The sets by their names, of which some are gone: tiny models stand for them."""
    members = [member for group in model_set(name).groups for member in group]
    kinds = [models[kind] for kind in ("base", "child", "stranger")]
    for i, member in enumerate(members):
        if i != 5:
            hub.add(member.removeprefix("hf://"), kinds[i % 3])
    ended = cli("matrix", "--set", name, "--progress", "none")
    assert ended.code == 0, ended.err
    assert ended.out.count(r"\begin{tabular}") == tables
    assert f"note: {members[5].split('/')[1]}: not read" in ended.out
    if tables > 1:
        assert len(cli("matrix", "--set", name, "--json", "--progress", "none").document["tables"]) == tables
        assert cli("matrix", "--set", name, "--tree", "x.svg").code == 2
    assert cli("matrix", "--set", name, "./a").code == 2


def test_a_hub_cannot_put_blocks_into_anothers(published, again, models):
    """It may list any digest: blocks are known by where they came from."""
    with hub_running(Hub()) as bad:
        repository = bad.add("bad/guy", models["stranger"])
        lie = digest(models["base"] / "model.safetensors")
        path = models["stranger"] / "model.safetensors"
        repository.files["model.safetensors"] = Virtual(
            path.stat().st_size, lambda start, stop: path.read_bytes()[start:stop], lie
        )
        os.environ["HF_ENDPOINT"] = bad.endpoint
        huref.fingerprint("bad/guy")
        os.environ["HF_ENDPOINT"] = published.endpoint
    again()
    assert huref.fingerprint("acme/base").vector.tobytes() == huref.fingerprint(models["base"]).vector.tobytes()


def test_a_hub_that_does_not_answer_is_not_replaced_by_an_old_snapshot(published, again, tmp_path, monkeypatch):
    from huggingface_hub import snapshot_download

    snapshot_download("acme/base", cache_dir=tmp_path / "hub", endpoint=published.endpoint)
    again()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(NetworkError):
        huref.fingerprint("acme/base")


@pytest.mark.parametrize(
    ("asked", "files", "chosen"),
    [
        ("Q4_K_M", ("m-Q4_K_M.gguf", "m-Q4_K_S.gguf", "mmproj-m-Q4_K_M.gguf"), "m-Q4_K_M.gguf"),
        ("q4_k_m", ("m.Q4_K_M.gguf",), "m.Q4_K_M.gguf"),
        ("UD-Q4_K_XL", ("m-UD-Q4_K_XL.gguf", "m-Q4_K_XL.gguf"), "m-UD-Q4_K_XL.gguf"),
        ("Q4_K_M", ("Q4_K_M/m-00001-of-00002.gguf", "Q4_K_M/m-00002-of-00002.gguf"), "Q4_K_M"),
        ("q4_k_m", ("Q4_K_M/m-00001-of-00002.gguf", "Q4_K_M/m-00002-of-00002.gguf"), "Q4_K_M/m-00001-of-00002.gguf"),
        ("Q4_K", ("m-Q4_K_M.gguf", "m-Q4_K_S.gguf"), MissingFileError),
        ("Q4", ("m-Q4_0.gguf",), MissingFileError),
        ("8B", ("Llama-3-8B-Q4_0.gguf",), MissingFileError),
        ("Q8_0", ("a-Q8_0.gguf", "b-Q8_0.gguf"), UsageError),
    ],
)
def test_a_quantisation_is_meant_whole(asked, files, chosen):
    name = RemoteName("hub", "x/y", "x/y", file=asked)
    if isinstance(chosen, str):
        assert mirror._chosen(list(files), name, asked) == chosen
    else:
        with pytest.raises(chosen):
            mirror._chosen(list(files), name, asked)


def test_a_fetched_file_that_was_changed_is_fetched_again(published, again, models):
    folder = huref.download("acme/base")
    (folder / "model.safetensors").write_bytes((models["stranger"] / "model.safetensors").read_bytes())
    again()
    assert huref.fingerprint("acme/base").vector.tobytes() == huref.fingerprint(models["base"]).vector.tobytes()


def test_odd_names_that_are_no_part_of_a_model(hub, models):
    hub.add("acme/odd", models["base"], listed=("runs/Jul05_10:12:33/events.out", "assets/what?.png"))
    assert huref.fingerprint("acme/odd").model == "odd"


def test_a_download_of_several_models_is_refused_first(hub, models):
    repository = hub.add("acme/ggufs", models["base"])
    del repository.files["model.safetensors"]
    big = Virtual(1 << 40, lambda start, stop: bytes(stop - start), "0" * 64)
    repository.files |= {"m-Q4_0.gguf": big, "m-Q8_0.gguf": big}
    with pytest.raises(UsageError, match="several GGUF models"):
        huref.download("acme/ggufs")
    for wrong in (None, 5, b"", "org/a::org/b"):
        with pytest.raises(UsageError):
            huref.download(wrong)
    with pytest.raises(MissingFileError):
        huref.download("typo ")
