"""Lightning's ``Trainer``, resumed by ``ckpt_path``."""

import glob
import inspect
import os
from typing import Any

import lightning
import torch

from parts.trainers import torch_data
from parts.trainers.recording import BATCH, EPOCHS, PER_EPOCH, SAVE_EVERY, Log, Task


class Module(lightning.LightningModule):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model, self.task = torch_data.Model(), task
        self.log_file: Any = None

    def train_dataloader(self) -> Any:
        ranks = self.trainer.world_size
        loader = torch.utils.data.DataLoader
        if self.task.is_fed_by_mpqueue():
            import mpqueue.torch

            loader = mpqueue.torch.DataLoader
        return loader(torch_data.Numbers(), batch_size=BATCH // ranks, shuffle=True, num_workers=self.task.workers)

    def training_step(self, batch: Any, _: int) -> Any:
        loss = self.model(**batch)["loss"]
        if self.log_file is None:
            self.log_file = Log(self.task, self.global_rank)
        self.log_file.step(self.global_step + 1, loss.item(), batch["number"].tolist())
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), 0.01)


class KeepGenerators(lightning.Callback):
    """A callback that saves torch's random state, which Lightning does not save: for dropout, and for later orders."""

    def state_dict(self) -> dict[str, Any]:
        return {"torch": torch.get_rng_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        torch.set_rng_state(state["torch"])  # a resumed loader draws no number; the next epoch draws from this state


def main(task: Task) -> None:
    torch_data.prepare()
    kind, _, how = task.variant.partition(", ")
    every: dict[str, Any] = {
        "by step": {"every_n_train_steps": SAVE_EVERY},
        "last step": {"every_n_train_steps": PER_EPOCH},
        "by epoch": {"every_n_epochs": 1, "save_on_train_epoch_end": True},
    }[kind]
    lightning.seed_everything(3, verbose=False)
    keeper = lightning.pytorch.callbacks.ModelCheckpoint(
        task.folder, "{step}", save_top_k=-1, enable_version_counter=False, **every
    )
    trainer = lightning.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[keeper, KeepGenerators()], deterministic=True, **({"devices": 2, "strategy": "ddp"} if how else {}),
    )  # fmt: skip
    module = Module(task)
    last = None
    for name in sorted(glob.glob(f"{task.folder}/*.ckpt"), key=os.path.getmtime):
        try:
            torch.load(name, weights_only=False)
        except Exception:  # it was incomplete
            os.rename(name, name + ".broken")
        else:
            last = name
    # The option exists in Lightning 2.6 and newer. Older versions load all objects of a checkpoint.
    options = {"weights_only": False} if "weights_only" in inspect.signature(trainer.fit).parameters else {}
    trainer.fit(module, ckpt_path=last, **options)
    module.log_file.end()
