"""The cost of an unlearning step: time in training passes over the same sample, memory in copies of the parameters.

    python benchmarks/unlearning.py --threads 2

Time is that of the whole call of `unlearn_`, including measuring and redrawing; on the CPU it is processor time, which
other programs disturb least. Methods and training pass take turns, and the multiples are medians over the rounds.
Memory is the peak of torch's allocator during the call, less what was allocated before. It is measured with batches of
one image, so that hardly any of it is activations, which a training pass needs, too.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lure.models import build_model
from lure.unlearn import unlearn_

Batches = list[tuple[Tensor, Tensor]]


def training_pass(model: nn.Module, batches: Batches) -> None:
    """Run forward and backward over all batches."""
    model.train()
    for inputs, labels in batches:
        nn.functional.cross_entropy(model(inputs), labels).backward()
        model.zero_grad()


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that one call takes: processor time on the CPU, elapsed time on a GPU."""
    if device.type == "cpu":
        started = time.process_time()
        work()
        return time.process_time() - started
    torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    torch.cuda.synchronize(device)
    return time.perf_counter() - started


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Return the peak of memory allocated on the device during the call, less what was allocated before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--methods", default="lure,lure:sample_size=100,dash,fire")
    parser.add_argument("--images", type=int, default=256, help="size of the sample")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)

    def build() -> nn.Module:
        return build_model(options.model, 10, (3, 32, 32))

    model = build().to(device)
    size = options.batch_size
    batches = [
        (torch.rand(size, 3, 32, 32, device=device), torch.randint(10, (size,), device=device))
        for _ in range(options.images // size)
    ]
    small = [(images[:1], labels[:1]) for images, labels in batches[:3]]
    copy = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    methods = options.methods.split(",")
    works = {"training pass": lambda data: training_pass(model, data)}
    works |= {method: lambda data, method=method: unlearn_(model, data, method, draw=build) for method in methods}
    copies = {name: peak_bytes(lambda work=work: work(small), device) / copy for name, work in works.items()}
    rounds = [
        {name: seconds(lambda work=work: work(batches), device) for name, work in works.items()}
        for _ in range(options.repeats)
    ]
    rows = [
        {
            "method": name,
            "seconds": statistics.median(times[name] for times in rounds),
            "passes": statistics.median(times[name] / times["training pass"] for times in rounds),
            "copies": copies[name],
        }
        for name in works
    ]
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    setting = (
        f"{options.model} ({copy / 4e6:.1f} million parameters), {len(batches)} batches of {size} images 3x32x32, "
        f"{processor}, {options.threads} thread(s), torch {torch.__version__}, {options.repeats} rounds"
    )
    if options.json:
        print(json.dumps({"setting": setting, "rows": rows}, indent=2))
        return
    print(setting)
    print(f"{'method':24}{'seconds':>10}{'passes':>10}{'copies of the parameters':>28}")
    for row in rows:
        print(f"{row['method']:24}{row['seconds']:10.2f}{row['passes']:10.2f}{row['copies']:28.2f}")


if __name__ == "__main__":
    main()
