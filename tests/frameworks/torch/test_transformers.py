"""Hugging Face's `Trainer` with persistent workers: a resumed training equals the uninterrupted one."""

import logging

import pytest
import torch
from torch.utils import data

import mpqueue.torch

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
STEPS, EPOCHS, BATCH = 4, 3, 2


class Noisy(data.Dataset):
    def __len__(self):
        return STEPS * BATCH

    def __getitem__(self, index):
        return {"x": torch.tensor([float(index)]) + torch.rand(1)}


class Stream(data.IterableDataset):
    def __iter__(self):
        return ({"x": torch.tensor([float(index)])} for index in range(STEPS * BATCH))


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
        self.losses, self.step = {}, None

    def forward(self, x):
        loss = (self.layers(x) - x).square().mean()
        self.losses.setdefault((self.step(), self.training), []).append(loss.item())
        return {"loss": loss}


def train(folder, evaluated, *, is_persistent, checkpoint=None):
    transformers.set_seed(3)
    model = Model()
    arguments = transformers.TrainingArguments(
        str(folder), per_device_train_batch_size=BATCH, per_device_eval_batch_size=BATCH, num_train_epochs=EPOCHS,
        save_strategy="steps", save_steps=1, eval_strategy="steps", eval_steps=3, logging_strategy="no",
        report_to="none", use_cpu=True, seed=3, dataloader_num_workers=1, remove_unused_columns=False,
        disable_tqdm=True, dataloader_persistent_workers=is_persistent,
    )  # fmt: skip
    trainer = transformers.Trainer(
        model, arguments, train_dataset=Noisy(), eval_dataset=evaluated, data_collator=data.default_collate
    )
    model.step = lambda: trainer.state.global_step
    with mpqueue.torch.install():
        trainer.train(resume_from_checkpoint=None if checkpoint is None else f"{folder}/checkpoint-{checkpoint}")
    return model.losses


# Checkpoints before the first evaluation, at the ends of epochs, and in the middle of epochs.
@pytest.mark.parametrize(
    ("evaluated", "is_persistent", "checkpoints"),
    [(Noisy, True, (2, 4, 6, 7)), (Noisy, False, (4, 6)), (Stream, True, (4, 6))],
)
def test_resumed_training_with_evaluation_has_the_losses_of_the_uninterrupted_one(
    evaluated, is_persistent, checkpoints, tmp_path, caplog
):
    caplog.set_level(logging.ERROR, "mpqueue")
    whole = train(tmp_path, evaluated(), is_persistent=is_persistent)
    evaluations = [tuple(whole[step, False]) for step in (3, 6, 9, 12)]
    assert [len(losses) for losses in evaluations] == [STEPS] * 4
    assert len(set(evaluations)) == 4
    for checkpoint in checkpoints:
        resumed = train(tmp_path, evaluated(), is_persistent=is_persistent, checkpoint=checkpoint)
        assert len(resumed) < len(whole)
        assert resumed == {key: whole[key] for key in resumed}, checkpoint
