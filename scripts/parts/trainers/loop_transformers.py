"""Hugging Face's ``Trainer``, resumed by ``resume_from_checkpoint``."""

import glob
import os
from typing import Any

import torch
import transformers

from parts.trainers import torch_data
from parts.trainers.recording import BATCH, EPOCHS, SAVE_EVERY, STEPS, Log, Task

LOADER = "loader.pt"


class Recorded(torch_data.Model):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log, self.trainer = log, None

    def forward(self, x: Any, labels: Any, number: Any) -> Any:
        out = super().forward(x, labels)
        self.log.step(self.trainer.state.global_step + 1, out["loss"].item(), number.tolist())
        return out


class KeepLoader(transformers.TrainerCallback):
    """A callback that saves the loader's state with each checkpoint. With ``ignore_data_skip``, the loader resumes."""

    def on_save(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        torch.save(train_dataloader.state_dict(), f"{args.output_dir}/checkpoint-{state.global_step}/{LOADER}")

    def on_train_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        if state.global_step:
            name = f"{args.output_dir}/checkpoint-{state.global_step}/{LOADER}"
            train_dataloader.load_state_dict(torch.load(name))


def main(task: Task) -> None:
    torch_data.prepare(installs=task.is_fed_by_mpqueue())
    log = Log(task)
    kind, _, how = task.variant.partition(", ")
    keeps = how == "state"
    dataset = {
        "map-style": torch_data.Numbers,
        "iterable": torch_data.Lines,
        "datasets": torch_data.hugging_face_stream,
    }[kind]()
    args = transformers.TrainingArguments(
        os.path.join(task.folder, "out"), per_device_train_batch_size=BATCH, num_train_epochs=EPOCHS,
        save_strategy="steps", save_steps=SAVE_EVERY, logging_strategy="no", report_to="none", use_cpu=True, seed=3,
        dataloader_num_workers=task.workers, remove_unused_columns=False, disable_tqdm=True,
        ignore_data_skip=keeps, max_steps=-1 if kind != "datasets" else STEPS,
    )  # fmt: skip
    transformers.set_seed(3)
    model = Recorded(log)
    trainer = transformers.Trainer(
        model,
        args,
        train_dataset=dataset,
        data_collator=torch.utils.data.default_collate,
        callbacks=[KeepLoader()] if keeps else [],
    )
    model.trainer = trainer
    wanted = LOADER if keeps else "trainer_state.json"
    saved = glob.glob(f"{args.output_dir}/checkpoint-*/{wanted}")  # only complete checkpoints
    saved = [os.path.dirname(name) for name in saved]
    last = max(saved, key=lambda name: int(name.rpartition("-")[2]), default=None)
    trainer.train(resume_from_checkpoint=last)
    log.end()
