"""Hold models around other libraries' networks against their exported copies.

    python tests/prove/targets.py          # all kinds of targets, some minutes
    python tests/prove/targets.py bert     # those whose name has "bert" in it

It needs transformers and timm (the extra ``prove``). Networks are small and random; nothing is
downloaded. A kind is "right" if outputs, buffers and gradients with respect to the circuit's angles
and the mapping net are those of the exported network: there, the loss is differentiated at the
weights by ``torch.func.functional_call``, and from there on through the plain path, without the
engine. It is "refused" if an error with the expected text says so.
"""

from __future__ import annotations

import argparse
import copy
import os
import pickle
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from qtlite import QuantumTrain, plain
from qtlite.experiments.data.torchvision import import_torchvision

torchvision = import_torchvision()  # before those that import it
import timm  # noqa: E402
import transformers  # noqa: E402

TOLERANCES = {torch.float32: 2e-3, torch.float64: 1e-8}  # of the largest entry
OUTSIDE = "or `with model.generated() as target:`"  # what an error advises
Run = Callable[[nn.Module], object]  # from a network to its outputs


def random(*shape: int, seed: int = 1) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


TOKENS = torch.randint(40, (2, 7), generator=torch.Generator().manual_seed(1))
MASK = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
IMAGES, ROWS = random(2, 3, 32, 32), random(4, 6, 8)


def like(network: nn.Module, inputs: Tensor) -> Tensor:
    """Inputs in a network's precision."""
    dtype = next(p.dtype for p in network.parameters())
    return inputs.to(dtype) if inputs.is_floating_point() else inputs


def on_images(net: nn.Module) -> Tensor:
    """Run a network on IMAGES."""
    return net(like(net, IMAGES))


def on_rows(net: nn.Module) -> Tensor:
    """Run a network on ROWS."""
    return net(like(net, ROWS))


def on_tokens(net: nn.Module) -> object:
    """Run a language model on TOKENS."""
    return net(TOKENS, labels=TOKENS, use_cache=False)


class Runs(nn.Module):
    """A network whose forward pass is a function of the network, for ``functional_call``."""

    def __init__(self, network: nn.Module, run: Run):
        super().__init__()
        self.network, self.run = network, run

    def forward(self) -> list[Tensor]:
        torch.manual_seed(0)  # dropout and sampling
        return tensors(self.run(self.network))


def tensors(value: object) -> list[Tensor]:
    """All tensors of floats in nested outputs."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, dict):
        value = list(value.values())
    return [t for each in value for t in tensors(each)] if isinstance(value, (list, tuple)) else []


def loss_of(outputs: list[Tensor]) -> Tensor:
    """A loss in which every entry counts differently."""
    pairs = ((output, random(*output.shape, seed=place)) for place, output in enumerate(outputs))
    return sum((output * factors.to(output.dtype)).sum().double() for output, factors in pairs)


def difference(found: list[Tensor], expected: list[Tensor], tolerance: float = 2e-5) -> float:
    """The largest difference, relative to the largest entry expected; at most ``tolerance``."""
    assert [t.shape for t in found] == [t.shape for t in expected]
    largest = max(t.detach().abs().max().item() for t in expected)
    assert 0 < largest < float("inf"), "there must be something to compare"
    pairs = zip(found, expected, strict=True)
    value = max((a.detach() - b.detach()).abs().max().item() for a, b in pairs) / largest
    assert value <= tolerance, f"a difference of {value:.1e}"
    return value


def exported(model: QuantumTrain, run: Run, slow: bool = True) -> tuple[list[Tensor], ...]:
    """Outputs, gradients of angles and mapping net, and buffers, of the exported network."""
    runs = Runs(model.to_classical(), run)
    with plain() if slow else nullcontext():
        weights = model.weights()
    leaves = {f"network.{n}": w.detach().clone().requires_grad_() for n, w in weights.items()}
    with torch.compiler.set_stance("force_eager"):
        outputs = torch.func.functional_call(runs, leaves, ())
    slopes = torch.autograd.grad(loss_of(outputs), list(leaves.values()), allow_unused=True)
    used = [(w, s) for w, s in zip(weights.values(), slopes, strict=True) if s is not None]
    parameters = [*model.qnn.parameters(), *model.mapping.parameters()]
    used_weights, used_slopes = zip(*used, strict=True)
    gradients = torch.autograd.grad(used_weights, parameters, used_slopes)
    return outputs, list(gradients), list(runs.network.buffers())


def train_step(model: nn.Module, run: Run) -> list[Tensor]:
    """Outputs, and a backward pass after them."""
    outputs = Runs(model, run)()
    loss_of(outputs).backward()
    return outputs


def step_inside(model: nn.Module, run: Run) -> list[Tensor]:
    """The documented way for other methods and checkpointed activations."""
    with model.generated() as target:
        outputs = Runs(target, run)()
        loss_of(outputs).backward()
    return outputs


def compare(
    target: nn.Module,
    run: Run,
    *,
    dtypes: tuple[torch.dtype, ...] = tuple(TOLERANCES),
    slow: bool = True,
    use: Callable[[QuantumTrain], nn.Module] = lambda model: model,
    step: Callable[[nn.Module, Run], list[Tensor]] = train_step,
    tolerance: float | None = None,
) -> float:
    """The largest relative difference between a model and its exported copy.

    Args:
        target: of the model, float32.
        run: from a network to its outputs, for the model and the exported network.
        dtypes: of the comparisons.
        slow: whether the exported network's gradients go on through the plain path.
        use: what is done with the model before it runs, such as ``copy.deepcopy``.
        step: the model's outputs, and a backward pass.
        tolerance: instead of TOLERANCES.
    """
    largest = 0.0
    for dtype in dtypes:
        made = copy.deepcopy(target).to(dtype)
        model = QuantumTrain(made, 2, generator=torch.Generator().manual_seed(0))
        expected, gradients, buffers = exported(model, run, slow)
        used = use(model)
        outputs = step(used, run)
        used = getattr(used, "_orig_mod", getattr(used, "module", used))
        angles, net = ([p.grad for p in part.parameters()] for part in (used.qnn, used.mapping))
        found = [
            (outputs, expected),
            (angles, gradients[: len(angles)]),
            (net, gradients[len(angles) :]),
        ]
        floats = [place for place, b in enumerate(buffers) if b.is_floating_point() and b.any()]
        if floats:
            ours = list(used.target.buffers())
            found.append(([ours[p] for p in floats], [buffers[p] for p in floats]))
        for pair in found:
            value = difference(*pair, tolerance or TOLERANCES[dtype])
            largest = max(largest, value) if dtype == dtypes[0] else largest
    return largest


def refused(text: str, function: Callable[[], object]) -> str:
    """Call a function that must raise an error with this text."""
    found = "no error"
    try:
        function()
    except Exception as error:
        found = repr(error)
    assert text in found, f"must be refused with {text!r}, got {found}"
    return text


# networks


def bert() -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=12,
    )  # fmt: skip
    return transformers.BertForMaskedLM(config)


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=24, bos_token_id=0,
        eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def vit() -> nn.Module:
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        image_size=32, patch_size=8, num_labels=5,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)


class VAE(nn.Module):
    """A variational autoencoder with four methods."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 6))
        self.decoder = nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 8))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder(x).chunk(2, dim=-1)

    def decode(self, code: Tensor) -> Tensor:
        return self.decoder(code)

    def sample(self, x: Tensor) -> Tensor:
        mean, log_variance = self.encode(x)
        return mean + torch.randn_like(mean) * (log_variance / 2).exp()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.decode(self.sample(x)), *self.encode(x)


class Checkpointed(nn.Module):
    """Computes its hidden layers again in the backward pass."""

    def __init__(self, reentrant: bool):
        super().__init__()
        self.first, self.reentrant = nn.Linear(8, 12), reentrant
        self.hidden = nn.Sequential(nn.Tanh(), nn.Linear(12, 9), nn.Dropout(0.2), nn.Tanh())
        self.last = nn.Linear(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(checkpoint(self.hidden, self.first(x), use_reentrant=self.reentrant))


class Convolutions(nn.Module):
    """A small network with a batch normalisation."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Linear(6 * 15**2, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


# ways to run them


def with_cache(net: nn.Module) -> list[Tensor]:
    """Two calls of GPT-2, the second with the keys and values of the first."""
    first = net(TOKENS, use_cache=True)
    second = net(TOKENS[:, :1], past_key_values=first.past_key_values)
    return [first.logits, second.logits]


def packed(net: nn.Module) -> list[Tensor]:
    """A recurrent network on sequences of several lengths."""
    lengths = torch.tensor([6, 5, 3, 1])
    rows = nn.utils.rnn.pack_padded_sequence(like(net, ROWS), lengths, batch_first=True)
    outputs, state = net(rows)
    return [outputs.data, state]


def methods(net: nn.Module) -> list[Tensor]:
    """The methods of a variational autoencoder."""
    x = like(net, ROWS)
    return [*net.encode(x), net.decode(net.sample(x))]


def autocast(run: Run) -> Run:
    """The same in bfloat16 where PyTorch thinks that it is enough."""

    def wrapped(net: nn.Module) -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return run(net)

    return wrapped


def checkpointing(model: QuantumTrain) -> QuantumTrain:
    """Switch on Hugging Face's own checkpoints of activations."""
    model.target.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def saved(model: QuantumTrain) -> QuantumTrain:
    """The model, written and read."""
    with TemporaryDirectory() as folder:
        torch.save(model, Path(folder, "model.pt"))
        return torch.load(Path(folder, "model.pt"), weights_only=False)


def compiled_target(model: QuantumTrain) -> QuantumTrain:
    """Compile the target in its place."""
    model.target.compile()
    return model


@contextmanager
def compiled() -> Iterator[None]:
    """See that the target is compiled, once, and that nothing else is."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    n_graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert n_graphs == 1, f"{n_graphs} graphs"


def compare_compiled(target: Callable[[], nn.Module], **options: object) -> float:
    """Compare a network that is compiled."""
    with compiled():
        return compare(target(), on_images, dtypes=(torch.float32,), **options)


# comparisons of another kind


def generate() -> float:
    model = QuantumTrain(gpt2().eval(), 2)
    options = {"max_new_tokens": 10, "return_dict_in_generate": True, "output_logits": True}
    largest = 0.0
    for how in ({"do_sample": False}, {"do_sample": True}, {"num_beams": 3, "do_sample": False}):
        torch.manual_seed(0)
        with model.generated() as target:
            found = target.generate(TOKENS, **options, **how)
        torch.manual_seed(0)
        expected = model.to_classical().generate(TOKENS, **options, **how)
        assert torch.equal(found.sequences, expected.sequences), how
        largest = max(largest, difference(list(found.logits), list(expected.logits)))
    return largest


def from_pretrained() -> float:
    model = QuantumTrain(bert().eval(), 2)
    with TemporaryDirectory() as folder:
        model.to_classical().save_pretrained(folder)
        read = transformers.BertForMaskedLM.from_pretrained(folder)
    return difference([read.eval()(TOKENS).logits], [model(TOKENS).logits])


def twelve_steps_compiled() -> float:
    target, losses = Convolutions(), {}
    for way in (lambda model: model, torch.compile):
        model = QuantumTrain(target, 2, generator=torch.Generator().manual_seed(0))
        optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
        with compiled() if way is torch.compile else nullcontext():
            network, losses[way] = way(model), []
            for _ in range(12):
                optimiser.zero_grad()
                loss = network(IMAGES).square().mean()
                loss.backward()
                optimiser.step()
                losses[way].append(loss)
    usual, found = losses.values()
    assert usual[-1] < usual[0] / 2, usual
    return difference(found, usual)


def autocast_bert() -> float:
    model = QuantumTrain(bert().eval(), 2)
    run = autocast(lambda net: net(TOKENS).logits)
    found, expected = run(model), run(model.to_classical())
    assert torch.equal(found, expected)
    with plain():
        slow = run(model)
    return difference([slow.float()], [expected.float()], 0.02)


def bfloat16_target() -> float:
    model, x = QuantumTrain(nn.Linear(8, 4).bfloat16(), 2), ROWS.bfloat16()
    return difference([model(x)], [model.to_classical()(x)])


def copy_of_bert() -> float:
    model = QuantumTrain(bert().eval(), 2)
    copied, before = copy.deepcopy(model), model(TOKENS).logits
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    assert not torch.equal(model(TOKENS).logits, before)
    return difference([copied(TOKENS).logits], [before])


def averaged() -> float:
    model = QuantumTrain(Convolutions().eval(), 2)
    average = torch.optim.swa_utils.AveragedModel(model)
    average.update_parameters(model)
    return difference([average(IMAGES)], [model.to_classical()(IMAGES)])


def forward_in_process(model: nn.Module, inputs: Tensor, results: Tensor) -> None:
    """Run a shared model, and change an angle so that the parent sees it."""
    torch.set_num_threads(1)
    with torch.no_grad():
        results.copy_(model(inputs))
        model.qnn.angles[0, 0] += 0.5


def shared() -> float:
    model = QuantumTrain(Convolutions().eval(), 2).share_memory()
    before, angle = model.to_classical()(IMAGES), model.qnn.angles[0, 0].item()
    results = torch.zeros_like(before).detach().share_memory_()
    process = multiprocessing.get_context("spawn").Process(
        target=forward_in_process, args=(model, IMAGES, results)
    )
    process.start()
    process.join(120)
    assert process.exitcode == 0, process.exitcode
    assert abs(model.qnn.angles[0, 0].item() - angle - 0.5) < 1e-6, "the change must be seen"
    return difference([results], [before])


def data_parallel(rank: int, port: int, path: str) -> None:
    """One of two processes: its half of the images, gradients averaged."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    torch.manual_seed(rank)  # each starts with other numbers: DDP makes them alike
    network = Convolutions()
    # its result for an image does not depend on the others
    network.features[1] = nn.GroupNorm(2, 6)
    model = QuantumTrain(network, 2)
    wrapped = DistributedDataParallel(model)
    for _ in range(2):
        wrapped.zero_grad()
        loss_of([wrapped(IMAGES[rank : rank + 1])]).backward()
    gradients = [p.grad for p in (*model.qnn.parameters(), *model.mapping.parameters())]
    halves = []
    for half in range(2):
        halves.append(exported(model, lambda net, half=half: net(IMAGES[half : half + 1]))[1])
    expected = [(a + b) / 2 for a, b in zip(*halves, strict=True)]
    torch.save(difference(gradients, expected, 2e-3), f"{path}/{rank}")
    distributed.destroy_process_group()


def two_processes() -> float:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with TemporaryDirectory() as folder:
        multiprocessing.spawn(data_parallel, (port, folder), nprocs=2)
        return max(torch.load(f"{folder}/{rank}") for rank in range(2))


# each returns the largest relative difference, or the text of a refusal
CASES: dict[str, Callable[[], float | str]] = {
    "transformers: BERT, tied embedding, dropout": lambda: compare(
        bert(), lambda net: net(input_ids=TOKENS, attention_mask=MASK, labels=TOKENS)
    ),
    "transformers: GPT-2": lambda: compare(gpt2(), on_tokens),
    "transformers: GPT-2 with a cache": lambda: compare(gpt2().eval(), with_cache),
    "transformers: GPT-2, generate()": generate,
    "transformers: GPT-2, its forward outside generated()": lambda: refused(
        OUTSIDE, lambda: QuantumTrain(gpt2().eval(), 2).target(TOKENS)
    ),
    # transformers asks for its first parameter's device; there is none: no advice, but no result
    "transformers: GPT-2, generate() outside generated()": lambda: refused(
        "StopIteration", lambda: QuantumTrain(gpt2().eval(), 2).target.generate(TOKENS)
    ),
    "transformers: ViT": lambda: compare(
        vit(), lambda net: net(like(net, IMAGES), output_hidden_states=True)
    ),
    "transformers: from_pretrained of the export": from_pretrained,
    "timm: vit_tiny, narrow": lambda: compare(
        timm.create_model(
            "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2,
            num_classes=5,
        ),
        on_images,
    ),
    "timm: test_resnet": lambda: compare(
        timm.create_model("test_resnet", num_classes=5), on_images
    ),
    "timm: test_efficientnet": lambda: compare(
        timm.create_model("test_efficientnet", num_classes=5), on_images
    ),
    "timm: forward_features() in generated()": lambda: compare(
        timm.create_model("test_vit", num_classes=5, img_size=32).eval(),
        lambda net: net.forward_features(like(net, IMAGES)),
        step=step_inside,
    ),
    "torchvision: resnet18, 11 million weights": lambda: compare(
        torchvision.models.resnet18(num_classes=5), on_images, slow=False, dtypes=(torch.float32,)
    ),
    "torchvision: mobilenet_v2": lambda: compare(
        torchvision.models.mobilenet_v2(num_classes=5, width_mult=0.25), on_images, slow=False
    ),
    "RNN": lambda: compare(nn.RNN(8, 6, batch_first=True), on_rows),
    "LSTM, bidirectional, two layers, dropout": lambda: compare(
        nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True, dropout=0.2), on_rows
    ),
    "GRU, packed sequences": lambda: compare(nn.GRU(8, 6, 2, batch_first=True), packed),
    "VAE": lambda: compare(VAE(), on_rows),
    "VAE, its methods in generated()": lambda: compare(VAE(), methods, step=step_inside),
    "VAE, its methods outside generated()": lambda: refused(
        OUTSIDE, lambda: QuantumTrain(VAE(), 2).target.encode(ROWS)
    ),
    "checkpoint(use_reentrant=False), backward() in generated()": lambda: compare(
        Checkpointed(False), on_rows, step=step_inside
    ),
    "checkpoint(use_reentrant=False), backward() after forward": lambda: refused(
        OUTSIDE, QuantumTrain(Checkpointed(False), 2)(ROWS).sum().backward
    ),
    "checkpoint(use_reentrant=True), backward() in generated()": lambda: refused(
        "backward through the graph a second time",
        lambda: step_inside(QuantumTrain(Checkpointed(True), 2), on_rows),
    ),
    "checkpoint(use_reentrant=True), backward() after forward": lambda: refused(
        OUTSIDE, QuantumTrain(Checkpointed(True), 2)(ROWS).sum().backward
    ),
    "transformers: gradient_checkpointing_enable(), in generated()": lambda: compare(
        gpt2().train(), on_tokens, use=checkpointing, step=step_inside
    ),
    "transformers: gradient_checkpointing_enable(), after forward": lambda: refused(
        OUTSIDE, on_tokens(checkpointing(QuantumTrain(gpt2().train(), 2))).loss.backward
    ),
    "torch.compile of the model": lambda: compare_compiled(Convolutions, use=torch.compile),
    "torch.compile of the model, twelve steps of Adam": twelve_steps_compiled,
    "torch.compile of the target": lambda: compare_compiled(lambda: torch.compile(Convolutions())),
    "target.compile()": lambda: compare_compiled(Convolutions, use=compiled_target),
    "torch.compile(fullgraph=True) of the model": lambda: refused(
        "marked as skipped",
        lambda: torch.compile(QuantumTrain(nn.Linear(8, 4), 2), fullgraph=True)(ROWS),
    ),
    "autocast to bfloat16": lambda: compare(
        Convolutions(), autocast(on_images), dtypes=(torch.float32,), tolerance=0.02
    ),
    "autocast to bfloat16, BERT, with and without the engine": autocast_bert,
    "a bfloat16 target": bfloat16_target,
    "copy.deepcopy": lambda: compare(Convolutions(), on_images, use=copy.deepcopy),
    "copy.deepcopy of a model around BERT, then another is trained": copy_of_bert,
    "pickle": lambda: compare(
        gpt2().eval(), on_tokens, use=lambda model: pickle.loads(pickle.dumps(model))
    ),
    "torch.save and torch.load of the whole model": lambda: compare(
        Convolutions(), on_images, use=saved
    ),
    "torch.optim.swa_utils.AveragedModel": averaged,
    "share_memory, in another process": shared,
    "DistributedDataParallel, two processes": two_processes,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", nargs="?", default="", help="only kinds with this in their name")
    name = parser.parse_args().name.lower()
    chosen = {kind: run for kind, run in CASES.items() if name in kind.lower()}
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    failures = 0
    print(f"{'kind of target':64} {'result':7} {'difference':>10} {'seconds':>8}")
    for kind, run in chosen.items():
        start, note = time.perf_counter(), ""
        torch.manual_seed(0)
        try:
            found = run()
        except Exception as error:  # whatever it is, the other kinds are tried too
            failures += 1
            result, shown, note = "WRONG", "", f"\n    {type(error).__name__}: {error}"
        else:
            is_right = isinstance(found, float)
            result, shown = ("right", f"{found:.0e}") if is_right else ("refused", "")
        seconds = time.perf_counter() - start
        print(f"{kind:64} {result:7} {shown:>10} {seconds:8.1f}{note}", flush=True)
    print(f"{len(chosen) - failures} of {len(chosen)} kinds right or refused")
    return 1 if failures or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
