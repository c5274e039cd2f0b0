"""Train, export and cut the shipped network: `python -m models.train --epochs 16 --seed 1 --out build/model`.

An AlexNet-style network of five convolution blocks and a classifier, with two early exits, trained jointly on composed
camera-like frames (models/frames.py). Cut k is the tensor after block k; inner tensors are narrow and bounded, so that
they cost about as many bytes on the wire as an encoded frame.
"""

import argparse
import csv
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from models.frames import CLASS_NAMES, FRAME_SIDE_PX, ByteArray, compose_jpegs, decode_jpegs, load_garments
from twinsplit.model.build import BuildReport, CutSettings, build_model
from twinsplit.model.frames import read_frames
from twinsplit.model.manifest import Preprocessing

LabelArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Settings:
    """Every number that shapes the result, one a line."""

    epochs: int = 16
    seed: int = 1  # of weights, order and composed frames
    batch: int = 128
    peak_learning_rate: float = 4e-3  # one cycle, AdamW
    weight_decay: float = 0.02
    dropout: float = 0.3  # before the classifier
    loss_weights: tuple[float, float, float] = (0.3, 0.3, 1.0)  # exit 1, exit 2, whole
    calibration_frames: int = 5_000  # of the training part, never trained on
    shipped_frames_per_class: int = 100  # of the test part
    threads: int = 2
    bfloat16: bool = True  # of the forward pass: 0.13 instead of 0.22 s a step where the processor has AVX512-BF16
    mean: tuple[float, float, float] = (0.44, 0.44, 0.44)  # of a channel scaled to 0..1
    std: tuple[float, float, float] = (0.27, 0.27, 0.27)
    tolerance: float = 1e-3  # largest difference of a logit between torch and ONNX Runtime


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size (but for its stride), with batch norm; ends before the activation."""
    padding = kernel // 2
    return [nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm2d(outputs)]


class Network(nn.Module):
    """Six segments and two exits. Blocks end in ReLU6: a bounded range keeps 4-bit tensors exact enough."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        relu, relu6, halve = nn.ReLU(), nn.ReLU6(), nn.MaxPool2d(2)
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(*convolution(3, 48, 7, 4), relu, *convolution(48, 16, 1), relu6, halve),  # (16, 16, 16)
                nn.Sequential(*convolution(16, 96, 5), relu, *convolution(96, 32, 1), relu6, halve),  # (32, 8, 8)
                nn.Sequential(*convolution(32, 128, 3), relu6),  # (128, 8, 8)
                nn.Sequential(*convolution(128, 128, 3), relu6),  # (128, 8, 8)
                nn.Sequential(*convolution(128, 96, 3), relu6, halve),  # (96, 4, 4)
            ]
        )
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(96 * 4 * 4, 256), relu, nn.Dropout(dropout), nn.Linear(256, len(CLASS_NAMES))
        )
        self.exit1 = nn.Sequential(
            *convolution(16, 32, 3, 2), relu, halve, nn.Flatten(), nn.Linear(32 * 4 * 4, len(CLASS_NAMES))
        )
        self.exit2 = nn.Sequential(
            *convolution(32, 48, 3, 2), relu, halve, nn.Flatten(), nn.Linear(48 * 2 * 2, len(CLASS_NAMES))
        )

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        """The tensors of cuts 1..5 and the logits (N, 10), for `frame` (N, 3, 128, 128) after preprocessing."""
        cuts = []
        for block in self.blocks:
            frame = block(frame)
            cuts.append(frame)
        return (*cuts, self.classifier(frame))

    def answers(self, frame: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, 10) of exit 1, exit 2 and the whole network."""
        cut1, cut2, *_, logits = self(frame)
        return self.exit1(cut1), self.exit2(cut2), logits


def preprocess(frames: Tensor, settings: Settings) -> Tensor:
    """`frames` (N, 128, 128, 3) uint8 RGB as the network's input (N, 3, 128, 128) float32."""
    mean, std = torch.tensor(settings.mean), torch.tensor(settings.std)
    return ((frames.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def augment(frames: Tensor) -> Tensor:
    """Half of `frames` (N, 128, 128, 3) mirrored, and the colour channels of all in one random order."""
    mirrored = (torch.rand(len(frames)) < 0.5)[:, None, None, None]
    return torch.where(mirrored, frames.flip(2), frames)[..., torch.randperm(3)]


def train(network: Network, frames: ByteArray, labels: LabelArray, settings: Settings) -> None:
    """Train all three answers together on `frames` (N, 128, 128, 3) and `labels` (N,), in place."""
    inputs, targets, weights = torch.from_numpy(frames), torch.from_numpy(labels), torch.tensor(settings.loss_weights)
    steps_per_epoch = len(inputs) // settings.batch
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.peak_learning_rate, epochs=settings.epochs, steps_per_epoch=steps_per_epoch
    )
    network.train()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        for epoch in range(settings.epochs):
            bar = progress.add_task(f"epoch {epoch + 1}/{settings.epochs}", total=steps_per_epoch)
            hits = torch.zeros(3)
            order = torch.randperm(len(inputs))
            for step in range(steps_per_epoch):
                batch = order[step * settings.batch : (step + 1) * settings.batch]
                with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
                    answers = network.answers(preprocess(augment(inputs[batch]), settings))
                losses = [nn.functional.cross_entropy(answer.float(), targets[batch]) for answer in answers]
                loss = torch.dot(weights, torch.stack(losses))
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
                hits += torch.stack([(answer.argmax(1) == targets[batch]).sum() for answer in answers])
                progress.advance(bar)
            shares = (100 * hits / (steps_per_epoch * settings.batch)).tolist()
            progress.console.print(f"epoch {epoch + 1}: " + ", ".join(f"{share:.1f} %" for share in shares))


@torch.inference_mode()
def accuracies(network: Network, frames: ByteArray, labels: LabelArray, settings: Settings) -> dict[str, float]:
    """Share of `frames` (N, 128, 128, 3) that exit 1, exit 2 and the whole network get right."""
    network.eval()
    hits = np.zeros(3)
    for start in range(0, len(frames), 500):
        answers = network.answers(preprocess(torch.from_numpy(frames[start : start + 500]), settings))
        hits += [(answer.argmax(1).numpy() == labels[start : start + 500]).sum() for answer in answers]
    return dict(zip(("exit1", "exit2", "whole"), (hits / len(frames)).tolist(), strict=True))


def export(network: Network, out: Path, settings: Settings) -> None:
    """Write whole.onnx, exit1.onnx and exit2.onnx to `out` and check them against torch.

    `frame` (1, 3, 128, 128) float32 after preprocessing -> `logits` (1, 10). The tensors between the segments are named
    `cut1`..`cut5`; exit k takes `cut<k>`.
    """
    network.eval()
    frame = torch.randn(1, 3, FRAME_SIDE_PX, FRAME_SIDE_PX)
    with torch.no_grad():
        cut1, cut2, *_ = network(frame)
    cut_names = [f"cut{k}" for k in range(1, 6)]
    for name, module, example, input_name, outputs in (
        ("whole", network, frame, "frame", [*cut_names, "logits"]),
        ("exit1", network.exit1, cut1, "cut1", ["logits"]),
        ("exit2", network.exit2, cut2, "cut2", ["logits"]),
    ):
        path = out / f"{name}.onnx"
        torch.onnx.export(
            module, (example,), path, input_names=[input_name], output_names=outputs, opset_version=17, dynamo=False
        )
        hide_outputs(path, keep="logits")
        check(path, module, example, settings.tolerance)


def hide_outputs(path: Path, keep: str) -> None:
    """Make every output of the model at `path` but `keep` an inner tensor; names stay."""
    model = onnx.load(path)
    inner = [output for output in model.graph.output if output.name != keep]
    for output in inner:
        model.graph.output.remove(output)
    model.graph.value_info.extend(inner)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def check(path: Path, module: nn.Module, example: Tensor, tolerance: float) -> None:
    """Raise ValueError if the exported model's logits differ from torch's by more than `tolerance`."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = module(example)
    logits = expected[-1] if isinstance(expected, tuple) else expected
    (measured,) = session.run(["logits"], {session.get_inputs()[0].name: example.numpy()})
    difference = float(np.abs(np.asarray(measured) - logits.numpy()).max())
    if not difference <= tolerance:
        raise ValueError(f"{path.name} differs from torch by {difference:.2g}, more than {tolerance:.2g}")


def write_frames(folder: Path, jpegs: Sequence[bytes], labels: LabelArray) -> None:
    """`folder`/0000.jpg ... and labels.csv (`file,label`, the label a class index)."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("file", "label"))
        for index, (jpeg, label) in enumerate(zip(jpegs, labels.tolist(), strict=True)):
            name = f"{index:04d}.jpg"
            (folder / name).write_bytes(jpeg)
            rows.writerow((name, label))


def balanced(labels: LabelArray, per_class: int) -> LabelArray:
    """Indices of the first `per_class` of every class, in their order."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:per_class] for label in range(len(CLASS_NAMES))]))


def build(out: Path, folder: Path, settings: Settings) -> BuildReport:
    """Cut, measure (over all test frames) and calibrate what `out` holds into `folder`, beside the shipped frames."""
    cut_names = ["cut1", "cut2", "cut4", "cut5"]  # with cut3 as well, segments would take over 3 % more than the whole
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bars: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=total)
            progress.update(bars[what], completed=done)

        report = build_model(
            out / "whole.onnx",
            folder,
            name="alexnet-fashion",
            version=1,
            cutting=CutSettings(cuts=cut_names),
            exits={k: out / f"exit{k}.onnx" for k in (1, 2)},
            classes=CLASS_NAMES,
            preprocessing=Preprocessing(kind="image", mean=settings.mean, std=settings.std),
            test=read_frames(out / "test"),
            calibration=read_frames(out / "calibration"),
            provenance={
                "data": "Fashion-MNIST (Zalando SE, MIT licence), composed by models/frames.py",
                "command": f"python -m models.train --epochs {settings.epochs} --seed {settings.seed}",
                "measured_on": "10,000 composed test frames; frames/ holds 1,000 of them, none seen in training",
            },
            is_replacing=True,
            progress=show,
        )
    shutil.rmtree(folder / "frames", ignore_errors=True)
    shutil.copytree(out / "frames", folder / "frames")
    return report


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=Settings.epochs)
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--out", type=Path, default=Path("build/model"), help="folder of everything that is built")
    parser.add_argument("--folder", type=Path, default=Path("models/alexnet-fashion/1"), help="the model folder made")
    arguments = parser.parse_args()
    settings = Settings(epochs=arguments.epochs, seed=arguments.seed)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    started_s = time.monotonic()

    print("Composing frames ...")
    train_part, test_part = load_garments("train", out / "download"), load_garments("t10k", out / "download")
    train_jpegs = list(compose_jpegs(train_part.images, seed=2 * settings.seed))
    test_jpegs = list(compose_jpegs(test_part.images, seed=2 * settings.seed + 1))
    first_trained = settings.calibration_frames
    write_frames(out / "test", test_jpegs, test_part.labels)
    write_frames(out / "calibration", train_jpegs[:first_trained], train_part.labels[:first_trained])
    shipped = balanced(test_part.labels, settings.shipped_frames_per_class)
    write_frames(out / "frames", [test_jpegs[index] for index in shipped], test_part.labels[shipped])

    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    network = Network(settings.dropout)
    train(network, decode_jpegs(train_jpegs[first_trained:]), train_part.labels[first_trained:], settings)
    torch.save(network.state_dict(), out / "network.pt")

    export(network, out, settings)
    test_frames = decode_jpegs(test_jpegs)
    report = {
        "settings": asdict(settings),
        "minutes": (time.monotonic() - started_s) / 60,
        "accuracy_test": accuracies(network, test_frames, test_part.labels, settings),
        "accuracy_shipped": accuracies(network, test_frames[shipped], test_part.labels[shipped], settings),
    }
    (out / "training.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    for note in build(out, arguments.folder, settings).notes:
        print(note)


if __name__ == "__main__":
    main()
