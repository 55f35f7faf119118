"""Fine-tune a picture network: on all posters, on fewer of them, larger, and on the public ones.

    python tools/release/picture.py --posters DIR --more DIR --films DIR --off-limits FILE \\
        --out DIR --start FILE [--network efficientnet_lite0]

Written in PyTorch with a depthwise convolution of its own (`depthwise.cpp`, compiled at the
start); activations are bfloat16, for which many CPUs have instructions. `--start` is an archive of
the weights to go on from, in Keras' names (`<layer>/<position>`, the head as `head/0` to `head/3`).
Batch normalisation is folded into the convolutions and stays as ImageNet left it. OUT gets a
checkpoint each 200 steps, from which the same command goes on, and at the end `picture.npz`, or
`second.npz` of Lite0: an average of the weights over the last few hundred steps, with its logits
of the validation posters as `*_validation.npy`.
"""

from __future__ import annotations

import copy
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from data import ReleaseData, arguments, load, targets
from heads import keras_arrays, new_head
from losses import asymmetric_loss
from torch import nn
from torch.utils.cpp_extension import load as compile_extension

from genre_utils.batches import augment
from genre_utils.evaluation import macro_average_precision
from genre_utils.images import enlarged, read_poster, resize_poster
from genre_utils.networks.efficientnet_lite import POOLED_STAGES, STAGES, VARIANTS, round_channels

FILES = {"efficientnet_lite2": "picture", "efficientnet_lite0": "second"}
# Sizes are (height, width). Lite0 costs half of Lite2, so it is shown a little more.
SMALL, LARGE = {"efficientnet_lite2": (288, 192), "efficientnet_lite0": (320, 216)}, (400, 272)
FROZEN_BLOCKS = 5
BATCH, HEAD_RATE, WARM = 32, 3, 60
EPSILON = 1e-3

depthwise = compile_extension(
    "depthwise",
    [str(Path(__file__).with_name("depthwise.cpp"))],
    extra_cflags=["-O3", "-march=native", "-ffast-math", "-fopenmp"],
)


class Depthwise(torch.autograd.Function):
    """Depthwise convolution of `(n, height, width, channels)`, padded as TensorFlow does."""

    @staticmethod
    def forward(ctx, x, weight, bias, kernel, stride):
        ctx.save_for_backward(x, weight)
        ctx.sizes = kernel, stride
        return depthwise.forward(x.contiguous(), weight.contiguous(), bias, kernel, stride)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        return (
            *depthwise.backward(x, weight, gradient.to(x.dtype).contiguous(), *ctx.sizes),
            None,
            None,
        )


class Lite(nn.Module):
    """EfficientNet-Lite with a head; RGB uint8 `(n, height, width, 3)` to logits `(n, 24)`."""

    def __init__(self, name: str, arrays: dict[str, np.ndarray]):
        super().__init__()
        self.weights, self.blocks = nn.ParameterDict(), []
        self._fold(arrays, "stem")
        self._fold(arrays, "top")
        width, depth = VARIANTS[name]
        channels_in = 32
        for stage, (repeats, kernel, stride, expansion, channels) in enumerate(STAGES):
            if 0 < stage < len(STAGES) - 1:
                repeats = math.ceil(repeats * depth)
            channels = round_channels(channels * width)
            for repeat in range(repeats):
                block = f"block{len(self.blocks)}"
                parts = ("expand", "depthwise", "project")[expansion == 1 :]
                for part in parts:
                    self._fold(arrays, f"{block}_{part}")
                step = stride if repeat == 0 else 1
                shortcut = step == 1 and channels == channels_in
                pooled = stage in POOLED_STAGES and repeat == repeats - 1
                self.blocks.append((block, kernel, step, expansion != 1, shortcut, pooled))
                channels_in = channels
        self.head = new_head(len(arrays["head/0"]))
        with torch.no_grad():
            for i, layer in enumerate((self.head[1], self.head[4])):
                layer.weight.copy_(torch.tensor(arrays[f"head/{2 * i}"].T))
                layer.bias.copy_(torch.tensor(arrays[f"head/{2 * i + 1}"]))

    def _fold(self, arrays: dict[str, np.ndarray], layer: str) -> None:
        kernel = arrays[f"{layer}_conv/0"].astype(np.float32)
        scale, shift = scale_and_shift(arrays, layer)
        if layer.endswith("depthwise"):
            kernel = (kernel[..., 0] * scale).reshape(-1, len(scale))
        elif layer == "stem":
            kernel = (kernel * scale).transpose(3, 2, 0, 1)
        else:
            kernel = kernel[0, 0] * scale
        self.weights[f"{layer}_kernel"] = nn.Parameter(torch.tensor(kernel.copy()))
        self.weights[f"{layer}_bias"] = nn.Parameter(torch.tensor(shift))

    def freeze(self, blocks: int) -> None:
        """Leave the stem and the first blocks as they are."""
        frozen = {"stem", *(name for name, *_ in self.blocks[:blocks])}
        for name, weight in self.weights.items():
            weight.requires_grad = name.split("_")[0] not in frozen

    def _pointwise(self, x: torch.Tensor, layer: str) -> torch.Tensor:
        return F.linear(x, self.weights[f"{layer}_kernel"].t(), self.weights[f"{layer}_bias"])

    def _stem(self, pixels: torch.Tensor) -> torch.Tensor:
        x = ((pixels.float() - 127) / 128).permute(0, 3, 1, 2)
        x = F.pad(x, (0, 1, 0, 1))  # TensorFlow's padding of even sizes
        x = F.conv2d(x, self.weights["stem_kernel"], self.weights["stem_bias"], stride=2)
        return F.relu6(x).permute(0, 2, 3, 1).contiguous()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x, means = self._stem(pixels), []
        for name, kernel, stride, expands, shortcut, pooled in self.blocks:
            y = F.relu6(self._pointwise(x, f"{name}_expand")) if expands else x
            weight, bias = (self.weights[f"{name}_depthwise_{part}"] for part in ("kernel", "bias"))
            y = F.relu6(Depthwise.apply(y, weight, bias, kernel, stride))
            y = self._pointwise(y, f"{name}_project")
            x = x + y if shortcut else y
            if pooled:
                means.append(x.mean((1, 2)) / 8)
        top = F.relu6(self._pointwise(x, "top")).mean((1, 2))
        return self.head(torch.cat([top, *means], 1))

    def unfolded(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the weights as Keras has them, with the batch normalisation of `arrays`."""
        found = dict(arrays)
        for name in [key for key in self.weights if key.endswith("_kernel")]:
            layer = name.removesuffix("_kernel")
            scale, _ = scale_and_shift(arrays, layer)
            kernel = self.weights[name].detach().numpy()
            shape = arrays[f"{layer}_conv/0"].shape
            if layer.endswith("depthwise"):
                kernel = (kernel / scale).reshape(shape)
            elif layer == "stem":
                kernel = kernel.transpose(2, 3, 1, 0) / scale
            else:
                kernel = (kernel / scale).reshape(shape)
            bias = self.weights[f"{layer}_bias"].detach().numpy()
            found[f"{layer}_conv/0"] = kernel
            found[f"{layer}_norm/1"] = bias + arrays[f"{layer}_norm/2"] * scale
        return found | {f"head/{i}": array for i, array in enumerate(keras_arrays(self.head))}


def scale_and_shift(arrays: dict[str, np.ndarray], layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Return what batch normalisation multiplies a layer's channels by, and adds to them."""
    gamma, beta, mean, variance = (arrays[f"{layer}_norm/{i}"].astype(np.float32) for i in range(4))
    scale = gamma / np.sqrt(variance + EPSILON)
    return scale, beta - mean * scale


LOSSES = {"crossentropy": F.binary_cross_entropy_with_logits, "asymmetric": asymmetric_loss}


def decode(data: ReleaseData, posters: list[str], size: tuple[int, int], file: Path) -> np.ndarray:
    """Decode posters into an array on disk, uint8 `(n, height, width, 3)`, once."""
    if not file.exists():
        partial = file.with_suffix(".partial.npy")
        shape = (len(posters), *size, 3)
        pixels = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)

        def fill(row: int) -> None:
            pixels[row] = resize_poster(read_poster(data.pictures[posters[row]]), size)

        with ThreadPoolExecutor() as pool:
            list(pool.map(fill, range(len(posters))))
        os.replace(partial, file)
    return np.load(file, mmap_mode="r")


@torch.no_grad()
def predict(network: Lite, pixels: np.ndarray) -> np.ndarray:
    """Return logits `(n, 24)`."""
    network.eval()
    parts = [
        network(torch.from_numpy(pixels[i : i + 16].copy())) for i in range(0, len(pixels), 16)
    ]
    network.train()
    return torch.cat(parts).numpy()


def main() -> None:
    """Train, and write the averaged weights."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--network", choices=FILES, default="efficientnet_lite2")
    parser.add_argument("--small", type=float, default=2.0, help="passes over all posters")
    parser.add_argument("--large", type=float, default=1.0, help="passes of the second stage")
    parser.add_argument("--public", type=float, default=0.0, help="passes over the public posters")
    parser.add_argument("--rate", type=float, default=1.5e-4, help="the highest learning rate")
    parser.add_argument("--loss", choices=LOSSES, default="crossentropy")
    options = parser.parse_args()
    loss_of = LOSSES[options.loss]
    data = load(options)
    torch.manual_seed(0)
    name, small_size = FILES[options.network], SMALL[options.network]
    public = [p for p in data.train if data.pictures[p].is_relative_to(options.posters)]
    others = sorted(set(data.train) - set(public))
    # As many of the other posters stay in the second stage, so that small prints are not forgotten.
    mixed = public + np.random.default_rng(0).permutation(others)[: len(public)].tolist()
    stages = []
    if options.small:
        small = decode(data, data.train, small_size, options.out / f"small_{name}.npy")
        stages += [(data.train, small, options.small)]
    if options.large or options.public:
        large = decode(data, mixed, LARGE, options.out / "large.npy")
        # The public posters are the first of `mixed`.
        stages += [(mixed, large, options.large), (public, large, options.public)]
    if not any(passes for _, _, passes in stages):
        parser.error("--small, --large and --public are 0: there is nothing to train on.")
    size = enlarged(LARGE)
    shown = decode(data, data.validation, size, options.out / "validation.npy")
    truth = targets(data, data.validation)

    draw, plan = np.random.default_rng(1), []
    for posters, pixels, passes in stages:
        count = int(passes * len(posters)) // BATCH
        turns = math.ceil(passes) or 1
        order = np.concatenate([draw.permutation(len(posters)) for _ in range(turns)])
        plan += [(posters, pixels, order[i * BATCH : (i + 1) * BATCH]) for i in range(count)]

    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        posters, pixels, rows = plan[step]
        varied = [augment(pixels[row], np.random.default_rng((step, row))) for row in rows]
        return torch.from_numpy(np.stack(varied)), torch.tensor(
            targets(data, [posters[row] for row in rows])
        )

    with np.load(options.start) as archive:
        arrays = dict(archive)
    network = Lite(options.network, arrays)
    network.freeze(FROZEN_BLOCKS)
    average = copy.deepcopy(network)
    body = [weight for weight in network.weights.values() if weight.requires_grad]
    groups = [
        {"params": body, "factor": 1},
        {"params": list(network.head.parameters()), "factor": HEAD_RATE},
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.rate, weight_decay=1e-2)
    checkpoint, start = options.out / f"{name}.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=False)
        start = state["step"]
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
    network.train()
    with ThreadPoolExecutor(1) as ahead:
        following = ahead.submit(batch, start)
        for step in range(start, len(plan)):
            pixels, labels = following.result()
            following = ahead.submit(batch, min(step + 1, len(plan) - 1))
            cosine = 0.5 * (1 + np.cos(np.pi * step / len(plan)))
            rate = options.rate * min(1, (step + 1) / WARM) * (0.97 * cosine + 0.03)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(pixels)
            loss = loss_of(logits.float(), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            share = 1 - min(0.995, (step + 1) / (step + 10))
            with torch.no_grad():
                for mean, new in zip(average.parameters(), network.parameters(), strict=True):
                    mean.lerp_(new, share)
            if step % 200 == 199 or step == len(plan) - 1:
                answers = predict(average, shown)
                figure = macro_average_precision(truth, answers)
                print(f"step {step + 1}: validation macro mAP {figure:.4f}", flush=True)
                state = {"step": step + 1, "optimizer": optimizer.state_dict()}
                state |= {"network": network.state_dict(), "average": average.state_dict()}
                torch.save(state, checkpoint.with_suffix(".partial"))
                os.replace(checkpoint.with_suffix(".partial"), checkpoint)
    np.savez(options.out / f"{name}.npz", **average.unfolded(arrays))
    np.save(options.out / f"{name}_validation.npy", answers)


if __name__ == "__main__":
    main()
