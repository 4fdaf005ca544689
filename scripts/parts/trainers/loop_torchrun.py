"""A plain loop under ``torchrun``, resumed with other numbers of ranks.

A step uses the same number of batches for any number of ranks, and adds their gradients in the order of the batches. So
its result does not depend on the number of ranks, to the last bit.
"""

import os
from typing import Any

import torch
import torch.distributed as dist

import mpqueue
from parts.trainers import torch_data
from parts.trainers.recording import EPOCHS, SAVE_EVERY, Log, Task, write_whole

NUMBERS, BATCH, BATCHES = 720, 2, 6  # a step has 6 batches with 1, 2 or 3 ranks
LANES, PER_EPOCH = 6, 20


def is_kept(number: int) -> bool:
    return number % 3 > 0


def noisy(number: int) -> tuple[Any, int]:
    return mpqueue.rng().standard_normal(4) * 0.01 + number / NUMBERS, number


def make_loader(task: Task) -> mpqueue.Loader:
    if task.variant == "indexed":
        numbers = mpqueue.Dataset.range(BATCH * BATCHES * PER_EPOCH).shuffle().map(noisy)
        return mpqueue.Loader(numbers.batch(BATCH), workers=task.workers, shard="auto", seed=3)
    numbers = mpqueue.Dataset.range(NUMBERS).shuffle().filter(is_kept).map(noisy).shuffle(buffer=10).batch(BATCH)
    each = PER_EPOCH * BATCHES // dist.get_world_size()
    return mpqueue.Loader(numbers, workers=task.workers, shard="auto", seed=3, lanes=LANES, epoch_batches=each)


def gradients(model: Any, batch: Any) -> tuple[Any, float, list[int]]:
    x, numbers = batch
    x = torch.from_numpy(x.astype("float32"))
    model.zero_grad()
    loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
    loss.backward()
    return [weights.grad.clone() for weights in model.parameters()], loss.item(), numbers.tolist()


def main(task: Task) -> None:
    torch_data.prepare()
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    log = Log(task, rank)
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    step, name = 0, os.path.join(task.folder, "checkpoint")
    loader = make_loader(task)
    if os.path.exists(name):
        saved = torch.load(name, weights_only=False)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        loader.load_state_dict(saved["loaders"] if task.variant == "stream" else saved["loaders"][0])
        step = saved["step"]
    with loader:
        while step < EPOCHS * PER_EPOCH:
            batches = iter(loader)
            for _ in range(PER_EPOCH - step % PER_EPOCH):
                mine = [gradients(model, next(batches)) for _ in range(BATCHES // world)]
                parts: list[Any] = [None] * world
                dist.all_gather_object(parts, mine)
                # In the order of a single rank.
                of_all = [part[place] for place in range(BATCHES // world) for part in parts]
                for weights, *grads in zip(model.parameters(), *[each for each, _, _ in of_all], strict=True):
                    weights.grad = torch.stack(grads).sum(0)
                optimizer.step()
                step += 1
                if rank == 0:
                    losses = sum(loss for _, loss, _ in of_all)
                    log.step(step, losses, [number for _, _, numbers in of_all for number in numbers])
                if step % SAVE_EVERY == 0:
                    dist.all_gather_object(parts, loader.state_dict())
                    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
                    if rank == 0:
                        write_whole(name, lambda file, saved=saved | {"loaders": parts}: torch.save(saved, file))
                    dist.barrier()
            next(batches, None)  # ends the epoch
    log.end()
    dist.destroy_process_group()
