"""A loop with Accelerate's ``save_state`` and ``load_state``."""

import glob
import os
import shutil

import accelerate
import torch

from parts.trainers import torch_data
from parts.trainers.recording import BATCH, EPOCHS, PER_EPOCH, SAVE_EVERY, Log, Task


def main(task: Task) -> None:
    torch_data.prepare(installs=task.is_fed_by_mpqueue())
    log = Log(task)
    kind, _, how = task.variant.partition(", ")
    is_stateful = how == "stateful"
    accelerate.utils.set_seed(3)
    config = accelerate.DataLoaderConfiguration(use_stateful_dataloader=is_stateful, use_seedable_sampler=True)
    accelerator = accelerate.Accelerator(cpu=True, dataloader_config=config)
    dataset = {"map-style": torch_data.Numbers, "iterable": torch_data.Lines}[kind]()
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=BATCH, shuffle=kind == "map-style", num_workers=task.workers
    )
    model = torch_data.Model()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    step = 0
    saved = glob.glob(f"{task.folder}/step-*[0-9]")
    if saved:
        last = max(saved, key=lambda name: int(name.rpartition("-")[2]))
        accelerator.load_state(last)
        step = int(last.rpartition("-")[2])
    for epoch in range(step // PER_EPOCH, EPOCHS):
        loader.set_epoch(epoch)
        batches = loader
        if not is_stateful and step % PER_EPOCH:
            batches = accelerator.skip_first_batches(loader, step % PER_EPOCH)
        for batch in batches:
            loss = model(**batch)["loss"]
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            log.step(step, loss.item(), batch["number"].tolist())
            if step % SAVE_EVERY == 0:
                name = f"{task.folder}/step-{step}"
                shutil.rmtree(f"{name}-unfinished", ignore_errors=True)
                accelerator.save_state(f"{name}-unfinished")
                shutil.rmtree(name, ignore_errors=True)
                os.rename(f"{name}-unfinished", name)
    log.end()
