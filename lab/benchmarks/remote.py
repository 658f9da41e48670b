"""Models on a hub, of which nothing is on the disk: bytes, requests, seconds and memory of a fingerprint.

    .venv/bin/python lab/benchmarks/remote.py [--shapes 135M,7B,70B,141B] [--latency 30] [--bandwidth 100]
                                              [--repeats 2] [--local DIR] [--out F]

A server on this machine speaks the hub's endpoints (`tests/kit/hub_server.py`) and makes up the weights as they are
asked for; every answer comes after the latency (ms), and all together at no more than the bandwidth (MB/s). Server
and client share the machine's cores. With `--local DIR` the 7B shape is also written there (13.5 GB) and read there.
The same ranges are fetched by `httpx2` with the threads that huref uses and by `obstore`, for comparison of the two.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from measure import MIB, Clock, Sample, alternate, machine, median, run_child, spread

SCRIPT = str(Path(__file__).resolve())
SHARD = 5 << 30
ENDPOINT = "HF_ENDPOINT"


@dataclass(frozen=True)
class Model:
    """A decoder's sizes, as published."""

    d_model: int
    d_ff: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    vocab_size: int
    n_experts: int = 0
    is_tied: bool = False

    def tensors(self) -> dict[str, tuple[int, ...]]:
        d, f = self.d_model, self.d_ff
        kv = d // self.n_heads * self.n_kv_heads
        found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab_size, d)}
        for i in range(self.n_layers):
            at = f"model.layers.{i}"
            found |= {f"{at}.self_attn.{n}_proj.weight": (kv if n in "kv" else d, d) for n in "qkv"}
            found[f"{at}.self_attn.o_proj.weight"] = (d, d)
            if self.n_experts:
                found[f"{at}.block_sparse_moe.gate.weight"] = (self.n_experts, d)
            for place, (gate, up, down) in self._places(at):
                found |= {f"{place}.{gate}.weight": (f, d), f"{place}.{up}.weight": (f, d)}
                found[f"{place}.{down}.weight"] = (d, f)
            found |= {f"{at}.{n}.weight": (d,) for n in ("input_layernorm", "post_attention_layernorm")}
        found["model.norm.weight"] = (d,)
        return found if self.is_tied else found | {"lm_head.weight": (self.vocab_size, d)}

    def _places(self, at: str) -> Iterator[tuple[str, tuple[str, str, str]]]:
        if not self.n_experts:
            yield f"{at}.mlp", ("gate_proj", "up_proj", "down_proj")
        for expert in range(self.n_experts):
            yield f"{at}.block_sparse_moe.experts.{expert}", ("w1", "w3", "w2")

    def config(self) -> dict[str, Any]:
        name = "Mixtral" if self.n_experts else "Llama"
        more = {"num_local_experts": self.n_experts, "num_experts_per_tok": 2} if self.n_experts else {}
        return {
            "architectures": [f"{name}ForCausalLM"],
            "model_type": name.lower(),
            "hidden_act": "silu",
            "hidden_size": self.d_model,
            "intermediate_size": self.d_ff,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads,
            "rms_norm_eps": 1e-6,
            "vocab_size": self.vocab_size,
            "tie_word_embeddings": self.is_tied,
            **more,
        }


SHAPES = {
    "135M": Model(576, 1536, 30, 9, 3, 49152, is_tied=True),
    "7B": Model(4096, 11008, 32, 32, 32, 32000),
    "70B": Model(8192, 28672, 80, 64, 8, 128256),
    "141B": Model(6144, 16384, 56, 48, 8, 32768, n_experts=8),
}


class MadeUp:
    """The bytes of a safetensors file that nobody wrote: numbers of a block that repeats, norms of ones."""

    def __init__(self, members: dict[str, tuple[int, ...]], block: bytes, seed: int) -> None:
        header, offset = {}, 0
        for name, shape in members.items():
            end = offset + 2 * int(np.prod(shape))
            header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
            offset = end
        text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
        text += b" " * (-len(text) % 8)
        self.head = struct.pack("<Q", len(text)) + text
        self.size = len(self.head) + offset
        self.ones = [tuple(entry["data_offsets"]) for name, entry in header.items() if "norm" in name]  # type: ignore[index]
        self.block, self.seed = block, seed
        self.sha256 = hashlib.sha256(self.head + bytes([seed])).hexdigest()

    def read(self, start: int, stop: int) -> bytes:
        if start < len(self.head):
            head = self.head[start:stop]
            return head + (self.read(len(self.head), stop) if stop > len(self.head) else b"")
        at, end = start - len(self.head), stop - len(self.head)
        period = len(self.block) // 2
        inside = (at + 2 * 7919 * self.seed) % period
        data = bytearray(self.block[inside : inside + end - at])
        for first, last in self.ones:
            low, high = max(first, at), min(last, end)
            if low < high:
                ones = np.full((high - low) // 2 + 2, 0x3F80, "<u2").tobytes()[(low - first) % 2 :][: high - low]
                data[low - at : high - at] = ones
        return bytes(data)


def files_of(model: Model, folder: Path, seed: int) -> dict[str, Any]:
    """A repository: text files on the disk, shards made up."""
    from kit.hub_server import Virtual
    from llama_shapes import write_tokenizer

    folder.mkdir(parents=True)
    words = np.random.default_rng(seed).standard_normal((1 << 24) + 41, dtype=np.float32) * np.float32(0.02)
    block = (words.view(np.uint32) >> 16).astype("<u2").tobytes()
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    filled = 0
    for name, shape in model.tensors().items():
        if shards[-1] and filled + 2 * int(np.prod(shape)) > SHARD:
            shards.append({})
            filled = 0
        shards[-1][name] = shape
        filled += 2 * int(np.prod(shape))
    names = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    index = {"weight_map": {tensor: name for name, part in zip(names, shards, strict=True) for tensor in part}}
    write_tokenizer(folder / "tokenizer.json", model.vocab_size)
    (folder / "config.json").write_text(json.dumps(model.config()))
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    made = [MadeUp(part, block * 2, seed + i) for i, part in enumerate(shards)]
    files: dict[str, Any] = {path.name: path for path in sorted(folder.iterdir())}
    return files | {name: Virtual(m.size, m.read, m.sha256) for name, m in zip(names, made, strict=True)}


def serve(shapes: list[str], latency: float, bandwidth: float, place: str, told: Any) -> None:
    """The server's process: it says where it listens, and what it sent whenever it is asked."""
    sys.path.insert(0, str(Path(SCRIPT).parents[2] / "tests"))
    from kit.hub_server import Hub, Repository, folder_app, hub_running, serving

    hub = Hub(latency=latency, bandwidth=bandwidth)
    with (Path(place) / "plain" / "big.bin").open("wb") as file:
        file.truncate(640 << 20)
    for i, name in enumerate(shapes):
        hub.repositories[f"bench/{name}"] = Repository(files_of(SHAPES[name], Path(place) / name, i))
    with hub_running(hub), serving(web=folder_app(hub, Path(place) / "plain")) as ports:
        told.send((hub.endpoint, f"http://127.0.0.1:{ports['web']}"))
        while told.recv():
            told.send((hub.sent, len(hub.requests)))
            hub.sent = 0
            hub.requests.clear()


def huref() -> None:
    """Child: fingerprint a model, the imports aside."""
    from huref import api
    from huref.fingerprints import pipeline  # noqa: F401
    from huref.model.source.remote import hub, mirror  # noqa: F401
    from huref.model.source.remote.cost import COST

    clock = Clock()
    found = api.fingerprint(sys.argv[2])
    clock.finish(received=COST.received, requests=COST.requests, total=found.weights["bytes_total"])


def transports() -> None:
    """Child: the same ranges of one file on a plain server, by huref's client or by obstore."""
    from concurrent.futures import ThreadPoolExecutor

    import httpx2  # noqa: F401
    import obstore
    from obstore.store import HTTPStore

    from huref.model.source.remote.http import Address, read_range

    address, name = sys.argv[2], "big.bin"
    spans = [(i << 22, (i + 1) << 22) for i in range(80)]  # matrices
    spans += [((400 << 20) + (i << 20), (400 << 20) + (i << 20) + 65536) for i in range(200)]  # rows
    clock = Clock()
    if sys.argv[3] == "httpx2":
        place = Address(f"{address}/{name}", name)
        with ThreadPoolExecutor(16) as pool:
            total = sum(len(data) for data in pool.map(lambda span: read_range(place, *span), spans))
    else:
        store = HTTPStore.from_url(address, client_options={"allow_http": True})
        with ThreadPoolExecutor(16) as pool:
            ranges = pool.map(lambda span: obstore.get_range(store, name, start=span[0], end=span[1]), spans)
            total = sum(len(bytes(data)) for data in ranges)
    clock.finish(total=total)


@contextmanager
def server(shapes: list[str], latency: float, bandwidth: float, place: Path) -> Iterator[Any]:
    (place / "plain").mkdir(parents=True)
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(shapes, latency, bandwidth, str(place), theirs), daemon=True)
    process.start()
    try:
        os.environ[ENDPOINT], plain = ours.recv()
        yield ours, plain
    finally:
        ours.send(False)
        process.join(10)
        process.terminate()


def main() -> int:
    """Serve, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--latency", type=float, default=30, help="milliseconds")
    parser.add_argument("--bandwidth", type=float, default=100, help="MB/s")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--local", type=Path, help="where the 7B shape is written and read; without it, not measured")
    options = parser.parse_args()
    shapes = options.shapes.split(",")
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HUREF_NO_CACHE"):
        os.environ.pop(name, None)
    print(machine())
    print(f"latency {options.latency:.0f} ms, {options.bandwidth:.0f} MB/s; nothing kept from an earlier run")
    heads = ("seconds", 22), ("peak MiB", 9), ("received MB", 12), ("of GB", 8), ("requests", 9), ("as transfer", 12)
    print(" " * 6, *(f"{head:>{width}}" for head, width in heads))
    with tempfile.TemporaryDirectory(prefix="huref-remote-") as home:
        place = Path(home)
        with server(shapes, options.latency / 1000, options.bandwidth * 1e6, place / "served") as (asked, plain):
            _transports(plain, options.repeats)
            asked.send(True)
            asked.recv()
            for name in shapes:
                runs = [_measured(name, place / f"{name}-{i}", asked) for i in range(options.repeats)]
                seconds = [run.seconds for run in runs]
                received = runs[-1].notes["received"]
                bare = received / options.bandwidth / 1e6
                print(
                    f"{name:6} {spread(seconds):>22} {median([run.peak for run in runs]) / MIB:9.0f} "
                    f"{received / 1e6:12.1f} {runs[-1].notes['total'] / 1e9:8.1f} {runs[-1].notes['requests']:9d} "
                    f"{median(seconds) / bare:12.2f}",
                    flush=True,
                )
                if name == "7B" and options.local:
                    _against_local(options, median(seconds), bare)
    return 0


def _measured(name: str, home: Path, asked: Any) -> Sample:
    os.environ["HUREF_HOME"], os.environ["HF_HOME"] = str(home), str(home / "hf")
    found = run_child(SCRIPT, "huref", f"bench/{name}")
    asked.send(True)
    sent, requests = asked.recv()
    shutil.rmtree(home)
    assert abs(sent - found.notes["received"]) <= 1 << 26, (sent, found.notes)  # text files are counted there too
    assert requests >= found.notes["requests"]
    return found


def _transports(plain: str, repeats: int) -> None:
    ways = {name: (lambda name=name: run_child(SCRIPT, "transports", plain, name)) for name in ("httpx2", "obstore")}
    samples = alternate(ways, dict.fromkeys(ways, repeats + 1))  # type: ignore[arg-type]
    for name, runs in samples.items():
        total = runs[0].notes["total"] / 1e6
        print(f"{name}, 280 ranges, {total:.0f} MB: {spread([run.seconds for run in runs])} s")


def _against_local(options: argparse.Namespace, seconds: float, bare: float) -> None:
    from llama_shapes import Shape, write_model

    folder = options.local / "llama-7b"
    if not (folder / "ranking.txt").exists():
        write_model(folder, Shape(4096, 11008, 32, 32, 32000), 2 << 30, is_repeated=True)
    runs = [run_child(SCRIPT, "huref", str(folder)).seconds for _ in range(options.repeats + 1)][1:]
    local = median(runs)
    print(
        f"       7B from the disk, page cache warm: {spread(runs)} s; "
        f"from the hub {seconds / (local + bare):.2f} times that and the transfer of its bytes"
    )


CHILDREN = {"huref": huref, "transports": transports}

if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] in CHILDREN:
        CHILDREN[sys.argv[1]]()
    else:
        raise SystemExit(main())
