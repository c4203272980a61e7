# Contract: with the classes on two ranks, loss and gradients are those of one process that holds them all. Two processes of gloo on this machine.
from __future__ import annotations

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="torch has no gloo"),
]

RANK = """
import os
import sys
import torch
import torch.distributed as distributed
from slipstick import losses

rank, meeting = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
torch.manual_seed(0)
hidden = torch.randn(31, 12, requires_grad=True)
weight, bias = torch.randn(70, 12), torch.randn(70)
targets = torch.randint(0, 70, (31,))
targets[::5] = -100
targets[1::9], targets[2::9] = 0, 40  # classes that a caller may ignore; 0 and 40 - 23 are also numbers within a shard
mine = slice(0, 23) if rank == 0 else slice(23, 70)  # shards of unequal size
for options in ({}, {"label_smoothing": 0.1, "z_loss": 0.01, "softcap": 5.0}, {"reduction": "none"}, {"ignore_index": 0}, {"ignore_index": 40}, {"class_weight": torch.rand(70)}):
    labels = targets.where(targets != -100, torch.tensor(options.get("ignore_index", -100)))
    shard, shard_bias = weight[mine].clone().requires_grad_(), bias[mine].clone().requires_grad_()
    loss = losses.linear_cross_entropy(hidden, shard, labels, shard_bias, process_group=distributed.group.WORLD, **options).sum()
    got = torch.autograd.grad(loss, (hidden, shard, shard_bias))
    whole, whole_bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    want_loss = losses.linear_cross_entropy(hidden, whole, labels, whole_bias, **options).sum()
    want = torch.autograd.grad(want_loss, (hidden, whole, whole_bias))
    assert abs(loss.item() - want_loss.item()) <= 2e-6 * abs(want_loss.item()), (options, loss, want_loss)
    for x, y in zip(got, (want[0], want[1][mine], want[2][mine])):
        assert ((x - y).norm() / y.norm()).item() <= 1e-5, options
# Classes that only fill up the last rank: no probability, no gradient.
masked = bias.clone()
masked[23:] = -torch.inf
shard, shard_bias = weight[mine].clone().requires_grad_(), masked[mine].clone().requires_grad_()
labels = torch.arange(31) % 23
loss = losses.linear_cross_entropy(hidden, shard, labels, shard_bias, process_group=distributed.group.WORLD)
got = torch.autograd.grad(loss, (hidden, shard, shard_bias))
z = hidden.double() @ weight[:23].double().T + masked[:23].double()
want = torch.nn.functional.cross_entropy(z, labels)
assert abs(loss.item() - want.item()) <= 2e-6 * want.item()
(by_hidden,) = torch.autograd.grad(want, hidden)
assert ((got[0] - by_hidden).norm() / by_hidden.norm()).item() <= 1e-5
assert rank == 0 or not any(x.any() for x in got[1:])
# The loss of a label that is certain beside the classes of the other rank is not rounded away.
for label, own, others in ((0, slice(0, 23), 47), (69, slice(23, 70), 23)):
    sure = torch.zeros(70, 1)
    sure[own] = -30
    sure[label] = 30
    loss = losses.linear_cross_entropy(torch.ones(1, 1), sure[mine], torch.tensor([label]), process_group=distributed.group.WORLD)
    assert abs(loss.item() - others * 2.718281828459045**-30) <= 1e-3 * loss.item(), loss
for labels, shard, message in (
    (torch.full((31,), 70), weight[mine], "targets[0] is 70; expected 0 to 69"),
    (targets, weight[: 70 * rank], "c has 0 rows on rank 0 of process_group; expected at least one class on each"),
):
    try:
        losses.linear_cross_entropy(hidden, shard, labels, process_group=distributed.group.WORLD)
    except (IndexError, ValueError) as error:
        assert message in str(error), error
    else:
        raise AssertionError("no error")
distributed.destroy_process_group()
print("ok", flush=True)
os._exit(0)  # torch's own threads may still want the interpreter while it ends, and then abort the process
"""


def test_two_ranks_agree_with_one_process(tmp_path):
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(tmp_path / "meeting")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], outputs
    assert all(output.rstrip().endswith("ok") for output in outputs)
