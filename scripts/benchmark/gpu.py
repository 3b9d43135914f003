"""Speed and memory of training and inference on one GPU, and whether it computes what a CPU does.

    python scripts/benchmark/gpu.py --out gpu.json --seconds 180

Weights are random and batches are synthetic, made once and kept in memory: no loader is measured.
Every training image has eight instances and the limit of positive RoIs (128); the parts come in
order of importance until the time is over, and one that fails is a line of the result.
"""

import argparse
import gc
import json
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmark.networks import build_network, make_batch, read_settings
from refine.atomic import write_text
from refine.config.settings import TrainSettings
from refine.detector.losses import compute_loss_weights, total_loss
from refine.detector.refine_net import RefineNet
from refine.pipeline import Pipeline
from refine.training.optim import build_optimizer
from refine.types import Batch

BASELINE, IBPP, LARGE = "r50_panoptic_fpn", "r50_ibpp3", "r101_dcn_refine"
VARIANTS = {
    "nothing crosses": "model.ibpp.direction=none",
    "T=0": "model.ibpp.num_iterations=0",
}
# every proposal that touches an instance is positive, so that there are as many as in a late step
POSITIVES = ("model.roi.iou_thresh=0.01", "model.roi.cascade_iou_thresh=[0.01,0.01,0.01]")
Row = dict[str, Any]


@dataclass(eq=False)
class Bench:
    """What is measured, on what, until when; rows of results by part."""

    device: str
    size: tuple[int, int]
    steps: int
    out: Path
    end: float
    networks: Sequence[str]
    inference_batch: int
    rows: list[Row] = field(default_factory=list)

    def run(self, part: str, case: str, measure: Callable[[], Row], *, needs: float) -> None:
        """Measure one case, unless less than ``needs`` seconds are left; write all results."""
        row: Row = {"part": part, "case": case}
        start = time.monotonic()
        if start + needs > self.end:
            row["skipped"] = "no time"
        else:
            try:
                row |= measure()
            except Exception as error:
                row["failed"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                print("".join(traceback.format_exc().splitlines(keepends=True)[-12:]), flush=True)
        row["took_s"] = round(time.monotonic() - start, 2)
        self.rows.append(row)
        print(json.dumps(row, default=str)[:2000], flush=True)
        write_text(self.out, json.dumps({"machine": describe(self), "rows": self.rows}, indent=1))
        gc.collect()
        if self.is_cuda:
            torch.cuda.empty_cache()

    @property
    def is_cuda(self) -> bool:
        """Whether a GPU is measured."""
        return self.device == "cuda"

    @cache  # noqa: B019 - there is one bench
    def make_batch(self, images: int, seed: int) -> Batch:
        """A batch of the size, page-locked if there is a GPU."""
        batch = make_batch(self.size, images=images, seed=seed)
        return batch.pin_memory() if self.is_cuda else batch

    def wait(self) -> None:
        """Wait for the device."""
        if self.is_cuda:
            torch.cuda.synchronize()


def describe(bench: Bench) -> Row:
    """Device, versions and conditions."""
    name = torch.cuda.get_device_name() if bench.is_cuda else "CPU"
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    size = f"{bench.size[0]}x{bench.size[1]}"
    return {"device": name, **versions, "size": size, "batches": "synthetic, in memory"}


class Trainer:
    """Training steps of a network: bf16 autocast, fused optimizer, batches copied each time."""

    def __init__(self, bench: Bench, settings: TrainSettings, batch_size: int) -> None:
        self.bench = bench
        network = build_network(settings).to(bench.device)
        self.network = network.to(memory_format=torch.channels_last).train()
        self.optimizer = build_optimizer(self.network, settings.optimizer)
        for group in self.optimizer.param_groups:
            group["lr"] = 1e-5
        self.weights = compute_loss_weights(settings.model)
        self.batches = [bench.make_batch(batch_size, k) for k in range(2)]
        self.count = 0

    def step(self) -> Tensor:
        """One step; the sum of the losses, on the device."""
        batch = self.batches[self.count % 2].to(self.bench.device, non_blocking=True)
        self.count += 1
        generator = torch.Generator().manual_seed(self.count)
        with torch.autocast(self.bench.device, dtype=torch.bfloat16):
            total = total_loss(self.network.loss(batch, generator=generator), self.weights)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        self.optimizer.step()
        return total.detach()


def measure_training(
    bench: Bench, overrides: Sequence[str], batch_size: int, *, compiled: bool = False
) -> Row:
    """Images per second, seconds per step, peak memory."""
    trainer = Trainer(bench, read_settings([*overrides, *POSITIVES]), batch_size)
    if compiled:
        trainer.network.backbone.compile(dynamic=True)
        trainer.network.semantic_trunk.compile(dynamic=True)
    start = time.monotonic()
    for _ in range(2):
        total = trainer.step()
    bench.wait()
    row: Row = {"batch": batch_size, "warm_up_s": round(time.monotonic() - start, 2)}
    if bench.is_cuda:
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(bench.steps):
        start = time.perf_counter()
        total = trainer.step()
        bench.wait()
        times.append(time.perf_counter() - start)
    seconds = sorted(times)[len(times) // 2]
    row |= {"images/s": round(batch_size / seconds, 2), "step_ms": round(seconds * 1e3, 1)}
    row["spread_ms"] = [round(t * 1e3) for t in (min(times), max(times))]
    if bench.is_cuda:
        row["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return row | {"loss": round(float(total), 3)}


def profile_training(bench: Bench, overrides: Sequence[str], batch_size: int) -> Row:
    """The operations that take most of the device's time in a step, and its idle time."""
    trainer = Trainer(bench, read_settings([*overrides, *POSITIVES]), batch_size)
    for _ in range(2):
        trainer.step()
    bench.wait()
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if bench.is_cuda else []
    start = time.perf_counter()
    with torch.profiler.profile(activities=activities) as profile:
        trainer.step()
        bench.wait()
    wall = time.perf_counter() - start
    key = "self_device_time_total" if bench.is_cuda else "self_cpu_time_total"
    events = sorted(profile.key_averages(), key=lambda e: -getattr(e, key))
    own = [e for e in events if not bench.is_cuda or "CUDA" in str(e.device_type)]
    busy = sum(getattr(e, key) for e in own)
    operations = [e for e in events if e not in own] if bench.is_cuda else own

    def top(chosen: Sequence[Any], count: int) -> list[Row]:
        return [
            {"ms": round(getattr(e, key) / 1e3, 2), "calls": e.count, "name": e.key[:90]}
            for e in chosen[:count]
        ]

    return {
        "batch": batch_size,
        "wall_ms": round(wall * 1e3, 1),
        "busy_ms": round(busy / 1e3, 1),
        "top": top(operations, 14),
        "kernels": top(own, 12) if bench.is_cuda else [],
    }


def count_waits(bench: Bench, overrides: Sequence[str], batch_size: int) -> Row:
    """How often, and where, the host waits for the device in a training step."""
    trainer = Trainer(bench, read_settings([*overrides, *POSITIVES]), batch_size)
    trainer.step()
    bench.wait()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if bench.is_cuda:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            trainer.step()
        finally:
            if bench.is_cuda:
                torch.cuda.set_sync_debug_mode("default")
    waits = [w for w in caught if "called a synchronizing" in str(w.message)]
    places = Counter(f"{'/'.join(Path(w.filename).parts[-2:])}:{w.lineno}" for w in waits)
    return {"batch": batch_size, "waits": len(waits), "places": dict(places.most_common(40))}


def measure_inference(
    bench: Bench, overrides: Sequence[str], batch_size: int, detections: int
) -> Row:
    """Milliseconds per image of the network, and with fusion to the panoptic map."""
    settings = read_settings(overrides, detections=detections)
    network = build_network(settings).to(bench.device).eval()
    pipeline = Pipeline(
        network,
        num_things=network.num_things,
        fusion=read_settings([BASELINE_FUSION, *overrides]).fusion,
        stuff_area_limit_px=4096,
    )
    batch = make_batch(bench.size, images=batch_size).to(bench.device)
    row: Row = {"batch": batch_size, "detections": detections}
    programs: dict[str, Callable[[Batch], Sequence[Any]]] = {
        "network": network.predict,
        "with fusion": pipeline.predict,
    }
    for name, run in programs.items():
        times = []
        for k in range(bench.steps + 2):
            start = time.perf_counter()
            with (
                torch.inference_mode(),
                torch.autocast(bench.device, dtype=torch.bfloat16),
            ):
                found = run(batch)
            bench.wait()
            times += [time.perf_counter() - start] if k > 1 else []
        row[f"{name} ms/image"] = round(sorted(times)[len(times) // 2] * 1e3 / batch_size, 2)
        if name == "network":
            row["found"] = [len(raw.boxes) for raw in found]
    return row


BASELINE_FUSION = "fusion.relations.kind=score"


def compare_networks(bench: Bench, overrides: Sequence[str], *, bf16: bool) -> Row:
    """Losses, semantic logits and detections on the device against the CPU in float32."""
    settings = read_settings([*overrides, *POSITIVES], detections=50)
    height, width = (min(side, limit) for side, limit in zip(bench.size, (192, 256), strict=True))
    batch = make_batch((height, width), images=2)
    network = build_network(settings)
    answers = []
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    for device, dtype in (("cpu", torch.float32), (bench.device, torch.bfloat16 if bf16 else None)):
        network.to(device)
        on_device = batch.to(device)
        enabled = dtype == torch.bfloat16
        with torch.autocast(device, dtype=torch.bfloat16, enabled=enabled):
            answers.append(_answer(network, on_device))
    torch.backends.cudnn.allow_tf32 = tf32
    (losses, rows), (device_losses, device_rows) = answers
    return {
        "losses": {
            k: [round(v, 5), f"{abs(device_losses[k] / v - 1):.1e}"] for k, v in losses.items()
        },
        **_compare_predictions(rows, device_rows),
    }


def _answer(network: RefineNet, batch: Batch) -> tuple[dict[str, float], list[Any]]:
    losses = network.train().loss(batch, generator=torch.Generator().manual_seed(0))
    torch.autograd.backward(total_loss(losses, compute_loss_weights(network.options)))
    norm = torch.stack([p.grad.norm() for p in network.parameters() if p.grad is not None]).norm()
    network.zero_grad()
    values = {name: float(value.detach()) for name, value in losses.items()}
    with torch.inference_mode():
        found = [raw.to("cpu") for raw in network.eval().predict(batch)]
    return values | {"gradient norm": float(norm)}, found


def _compare_predictions(ours: Sequence[Any], theirs: Sequence[Any]) -> Row:
    """Deviation of the semantic logits, and the share of detections found again."""
    logits = [(a.semantic_logits, b.semantic_logits) for a, b in zip(ours, theirs, strict=True)]
    deviation = max(float((a - b).abs().max() / a.std()) for a, b in logits)
    agree = [float((a.argmax(0) == b.argmax(0)).float().mean()) for a, b in logits]
    same, total, masks = 0, 0, [0.0]
    for a, b in zip(ours, theirs, strict=True):
        iou = torchvision.ops.box_iou(a.boxes, b.boxes) * (a.labels[:, None] == b.labels)
        best, partner = iou.max(dim=1)
        again = best > 0.99
        same, total = same + int(again.sum()), total + len(again)
        shifts = (a.mask_logits - b.mask_logits[partner])[again].abs()
        masks += [float(shifts.max())] if len(shifts) else []
    return {
        "semantic: largest deviation / std": f"{deviation:.1e}",
        "semantic: same category": round(min(agree), 5),
        "detections found again": f"{same}/{total}",
        "mask logits: largest deviation": f"{max(masks):.1e}",
    }


def plan(bench: Bench, batch_sizes: Sequence[int]) -> None:
    """Every part, the most important first; ``needs`` are seconds on an H100."""
    experiments = {name: [f"experiment={name}"] for name in bench.networks}
    small = {name: e for name, e in experiments.items() if name != LARGE}
    main = batch_sizes[0]
    train_all(bench, small, [main])
    for name, overrides in small.items():
        bench.run("profile", name, partial(profile_training, bench, overrides, main), needs=12)
        bench.run("waits", name, partial(count_waits, bench, overrides, main), needs=8)
    if IBPP in small:
        variants = {f"{IBPP}, {k}": [*small[IBPP], v] for k, v in VARIANTS.items()}
        train_all(bench, variants, [main])
    for name, overrides in small.items():
        for size, detections in ((1, 100), (1, 15), (bench.inference_batch, 100)):
            infer = partial(measure_inference, bench, overrides, size, detections)
            bench.run("inference", name, infer, needs=8)
    train_all(bench, {k: v for k, v in experiments.items() if k == LARGE}, [main], needs=25)
    train_all(bench, small, batch_sizes[1:], needs=15)
    compare_all(bench, small)
    if bench.is_cuda:
        compiled = {f"{name}, compiled": overrides for name, overrides in small.items()}
        train_all(bench, compiled, [main], needs=60, compiled=True)


def compare_all(bench: Bench, experiments: Mapping[str, Sequence[str]]) -> None:
    """Compare every experiment with the CPU, in float32 and in bf16."""
    for name, overrides in experiments.items():
        for bf16 in (False, True):
            compare = partial(compare_networks, bench, overrides, bf16=bf16)
            bench.run("against CPU", f"{name}, {'bf16' if bf16 else 'float32'}", compare, needs=10)


def train_all(
    bench: Bench,
    experiments: Mapping[str, Sequence[str]],
    batch_sizes: Sequence[int],
    *,
    needs: float = 12,
    compiled: bool = False,
) -> None:
    """Measure the training of every experiment at every batch size."""
    for case, overrides in experiments.items():
        for size in batch_sizes:
            measure = partial(measure_training, bench, overrides, size, compiled=compiled)
            bench.run("training", case, measure, needs=needs)


def print_tables(bench: Bench) -> None:
    """Everything once more, compactly."""
    print("\n" + "  ".join(f"{k}: {v}" for k, v in describe(bench).items()))
    for row in bench.rows:
        values = {k: v for k, v in row.items() if k not in ("part", "case", "top", "kernels")}
        text = "  ".join(f"{k} {v}" for k, v in values.items())
        print(f"{row['part']:<12} {row['case']:<32} {text}")
    for row in bench.rows:
        for name in ("top", "kernels"):
            if row.get(name):
                print(f"\n{row['case']}: {name}")
                for entry in row[name]:
                    print(f"  {entry['ms']:9.2f} ms {entry['calls']:6d}x  {entry['name']}")


def main() -> int:
    """Measure what the time allows; 0 if nothing failed."""
    description = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="gpu", description=description)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--seconds", type=float, default=180.0, help="start nothing afterwards")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1333), metavar=("H", "W"))
    parser.add_argument("--networks", nargs="+", default=[BASELINE, IBPP, LARGE])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16, 8, 32])
    parser.add_argument("--inference-batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=7, help="timed steps of each case")
    arguments = parser.parse_args()
    bench = Bench(
        arguments.device,
        tuple(arguments.size),
        arguments.steps,
        arguments.out,
        time.monotonic() + arguments.seconds,
        arguments.networks,
        arguments.inference_batch,
    )
    plan(bench, arguments.batch_sizes)
    print_tables(bench)
    return int(any("failed" in row for row in bench.rows))


if __name__ == "__main__":
    sys.exit(main())
