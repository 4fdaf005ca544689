"""The samples of a batch of `mpqueue.torch.DataLoader`, that batch again, and batches without some samples."""

import math
import pickle
import random

import numpy as np
import pytest
import torch
from helpers.doc_pages import blocks
from helpers.numbered_batches import iter_after
from helpers.torch_batches import Numbers
from torch.utils import data

import mpqueue.torch
from mpqueue.torch import DataLoader


class Noisy(Numbers):
    """Samples with their index, and with random numbers from all generators."""

    def __getitem__(self, index):
        noise = torch.rand(()).item(), random.random(), np.random.rand()
        if mpqueue.worker_info() is not None:
            noise += (mpqueue.rng().random(),)
        return index, torch.tensor(noise, dtype=torch.float64)


class Sharded(data.IterableDataset):
    """Numbers that the workers share, in turn."""

    num_passes = 0

    def __iter__(self):
        self.num_passes += 1
        info = data.get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for number in range(first, 37, step):
            torch.rand(())
            yield number


class Shrinking(data.IterableDataset):
    """A dataset with fewer elements in each copy of it."""

    length = 6

    def __iter__(self):
        return iter(range(self.length))

    def __deepcopy__(self, memo):
        made = Shrinking()
        made.length = self.length - 3
        return made


def is_no_third(number):
    return number % 3 > 0


class Epochs(data.Sampler):
    """A separate order for each epoch from ``set_epoch``."""

    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter(random.Random(self.epoch).sample(range(23), 23))

    def __len__(self):
        return 23


def generator():
    return torch.Generator().manual_seed(7)


def loader_of(workers, order="shuffled", **options):
    torch.manual_seed(5)
    chosen = {"batch_size": 4, "shuffle": order == "shuffled"} | options
    return DataLoader(chosen.pop("dataset", Noisy(23)), num_workers=workers, **chosen)


def indices(batch):
    return tuple(torch.as_tensor(batch[0]).reshape(-1).tolist())


def random_states(loader):
    own = None if loader.generator is None else loader.generator.get_state().tolist()
    numbers = np.random.get_state()[1].tolist()
    return torch.get_rng_state().tolist(), own, random.getstate(), numbers, getattr(loader.sampler, "epoch", None)


class TestLast:
    def test_pass_that_is_left_before_its_first_batch_does_not_count(self):
        loader = loader_of(0)
        iter(loader)
        next(iter(loader))
        assert loader.last.epoch == 0

    def test_names_the_rank_of_torch_distributed(self, monkeypatch):
        loader = loader_of(0)
        next(iter(loader))
        for name, answer in (("is_initialized", True), ("get_rank", 2), ("get_world_size", 4)):
            monkeypatch.setattr(torch.distributed, name, lambda answer=answer: answer)
        assert (loader.last.rank, loader.last.world_size) == (2, 4)

    def test_iterable_style_dataset_is_not_changed(self):
        dataset = Sharded()
        loader = DataLoader(dataset, 4)
        before = torch.get_rng_state()
        for _ in loader:
            pass
        after = torch.get_rng_state()
        assert loader.last.samples == ((0, 36),)
        assert dataset.num_passes == 1
        assert torch.equal(torch.get_rng_state(), after)
        assert not torch.equal(before, after)

    def test_iterable_style_dataset_of_a_worker_with_other_elements_the_next_time_raises_an_error(self):
        loader = DataLoader(Shrinking(), 4, num_workers=1)
        for _ in loader:
            pass
        with pytest.raises(LookupError, match="must return the same elements each time"):
            loader.last.samples

    @pytest.mark.parametrize("workers", [0, 2])
    @pytest.mark.parametrize("options", [{}, {"epoch_batches": 5}], ids=str)
    def test_stream_has_the_ids_of_its_dataset(self, workers, options):
        stream = mpqueue.Dataset.range(60).filter(is_no_third).shuffle(buffer=9)
        loader = DataLoader(stream, 4, num_workers=workers, **options)
        infos = []
        for epoch in range(2):
            for index, batch in enumerate(loader):
                info = loader.last
                assert (info.epoch, info.batch) == (epoch, index)
                assert info.samples == tuple(batch.tolist())
                infos.append((loader.last, batch.tolist()))
        for info, expected in infos:
            assert info.samples == tuple(expected)

    def test_attributes_of_other_loaders_replace_the_answers_while_installed(self):
        class Remembering(data.DataLoader):
            def __iter__(self):
                for self.last in super().__iter__():
                    yield self.last

        with mpqueue.torch.install():
            loader = Remembering(range(4), 2)
            assert [loader.last.tolist() for _ in loader] == [[0, 1], [2, 3]]


class TestExplainAndCompute:
    @pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
    @pytest.mark.parametrize("workers", [0, 1])
    def test_sampler_with_its_own_state_continues_where_it_is(self, workers):
        torchdata = pytest.importorskip("torchdata.stateful_dataloader")
        with mpqueue.torch.install():
            options = {"shuffle": True, "num_workers": workers, "generator": generator()}
            loader = torchdata.StatefulDataLoader(Noisy(23), 4, **options)
            seen, explained = [], set()
            for batch in loader:
                seen.append(indices(batch))
                explained.add(tuple(loader.explain(0, number).samples for number in range(6)))
            assert explained == {tuple(seen)}

    def test_explain_uses_the_epoch_of_the_pass(self):
        loader = loader_of(0, "in order", sampler=Epochs())
        wanted = [indices(batch) for batch in loader]
        loader.sampler.set_epoch(1)
        assert loader.explain(0, 0).samples == wanted[0]
        assert loader.sampler.epoch == 1

    def test_compute_without_workers_has_the_samples_and_keeps_the_generators(self):
        loader = loader_of(0)
        batch = next(iter(loader))
        before = random_states(loader)
        assert indices(loader.compute(0, 0)) == indices(batch)
        assert random_states(loader) == before

    def test_compute_without_workers_repeats_random_numbers_of_a_dataset(self):
        noisy = mpqueue.Dataset.range(8).map(lambda number: (number, mpqueue.rng().random()))
        loader = DataLoader(noisy, 2, shuffle=True)
        for index, batch in enumerate(loader):
            assert loader.compute(0, index)[1].tolist() == batch[1].tolist()

    @pytest.mark.parametrize("workers", [0, 1])
    def test_unknown_batches_raise_lookup_errors(self, workers):
        loader = loader_of(workers)
        with pytest.raises(LookupError, match="has not begun a pass"):
            loader.explain(0, 0)
        next(iter(loader))
        with pytest.raises(LookupError, match=r"epoch 1 is unknown: only batches of the latest pass, 0"):
            loader.explain(1, 0)
        with pytest.raises(LookupError, match="no batch 6: its sampler returned 6 batches"):
            loader.compute(0, 6)

    def test_bad_numbers_are_refused(self):
        loader = loader_of(0)
        with pytest.raises(TypeError, match="epoch must be an integer, got '0'"):
            loader.explain("0", 0)
        with pytest.raises(ValueError, match="batch must be 0 or more"):
            loader.compute(0, -1)

    def test_sampler_that_cannot_be_iterated_again_raises_an_error(self):
        loader = loader_of(0, "in order", sampler=iter(range(8)))
        batches = iter_after(loader, 1)
        with pytest.raises(LookupError, match="is an iterator"):
            loader.explain(0, 0)
        assert indices(next(batches)) == (4, 5, 6, 7)

    def test_sampler_with_unknown_random_numbers_raises_an_error(self):
        class Global(data.Sampler):
            def __iter__(self):
                return iter(random.sample(range(23), 23))

            def __len__(self):
                return 23

        loader = loader_of(0, "in order", sampler=Global())
        next(iter(loader))
        with pytest.raises(LookupError, match="another order when it is iterated again"):
            loader.explain(0, 1)

    @pytest.mark.filterwarnings("ignore::UserWarning")
    @pytest.mark.parametrize("damaged", [2, 7])  # 7: at the end of an epoch
    def test_callback_of_the_page_names_the_batch_of_a_trainer(self, damaged, tmp_path, capsys):
        transformers = pytest.importorskip("transformers")
        pytest.importorskip("accelerate")
        (block,) = [block for block in blocks() if "class StopAtNaN" in block.text]
        names = {}
        exec(block.text, names)
        seen = []

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(1, 1)

            def forward(self, x):
                seen.append(tuple(x.flatten().int().tolist()))
                loss = self.layer(x).square().mean()
                return {"loss": loss * math.nan if len(seen) == damaged + 1 else loss}

        arguments = transformers.TrainingArguments(
            str(tmp_path), per_device_train_batch_size=4, num_train_epochs=3, logging_steps=1, save_strategy="no",
            logging_nan_inf_filter=False, report_to="none", use_cpu=True, dataloader_num_workers=1, disable_tqdm=True,
        )  # fmt: skip
        numbers = [{"x": torch.tensor([float(number)])} for number in range(16)]
        options = {"data_collator": data.default_collate, "callbacks": [names["StopAtNaN"]()]}
        trainer = transformers.Trainer(Model(), arguments, train_dataset=numbers, **options)
        with mpqueue.torch.install():
            trainer.train()
        assert len(seen) == damaged + 1
        assert f"step {damaged + 1}: {seen[damaged]}\n" in capsys.readouterr().out


class TestExclude:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_last_explain_and_compute_know_the_exclusion(self, workers):
        loader = loader_of(workers, "in order")
        batches = iter_after(loader, 1)
        loader.exclude([0, 5, *range(8, 12)])
        assert (loader.last.batch, loader.last.samples) == (0, (0, 1, 2, 3))
        assert [indices(next(batches)) for _ in range(2)] == [(4, 6, 7), (12, 13, 14, 15)]
        assert (loader.last.batch, loader.last.step) == (3, 2)
        assert [loader.explain(0, number).samples for number in range(3)] == [(0, 1, 2, 3), (4, 6, 7), ()]
        assert indices(loader.compute(0, 1)) == (4, 6, 7)
        with pytest.raises(LookupError, match="is empty"):
            loader.compute(0, 2)

    def test_copy_has_its_own_exclusions(self):
        loader = loader_of(0, "in order")
        loader.exclude([0])
        other = pickle.loads(pickle.dumps(loader))
        other.exclude([1])
        assert indices(next(iter(loader))) == (1, 2, 3)
        assert indices(next(iter(other))) == (2, 3)

    @pytest.mark.parametrize(
        ("ids", "error", "message"),
        [
            (3, TypeError, r"pass \[3\] for a single id"),
            ([23], ValueError, "has 23 samples, got 23"),
            (["key"], ValueError, "has 23 samples, got 'key'"),
        ],
    )
    def test_bad_ids_are_refused(self, ids, error, message):
        loader = loader_of(2)
        with pytest.raises(error, match=message):
            loader.exclude(ids)
        assert "history" not in loader.state_dict()

    def test_keys_of_a_sampler_can_be_excluded(self):
        words = {"one": 1, "two": 2, "three": 3}
        loader = loader_of(0, "in order", dataset=words, sampler=list(words), batch_size=2)
        loader.exclude(["two"])
        assert [batch.tolist() for batch in loader] == [[1], [3]]
        assert loader.last.samples == ("three",)

    @pytest.mark.parametrize(("call", "arguments"), [("exclude", ([0],)), ("explain", (0, 0)), ("compute", (0, 0))])
    @pytest.mark.parametrize(
        ("dataset", "kind", "remedy"),
        [
            (mpqueue.Dataset.range(8).filter(bool), "mpqueue.Dataset", "mpqueue.Loader(dataset, batch_size=2)"),
            (Sharded(), "iterable-style Sharded", "mpqueue.Loader(mpqueue.Dataset(dataset), batch_size=2)"),
        ],
        ids=["Dataset", "iterable-style"],
    )
    def test_streams_are_refused(self, dataset, kind, remedy, call, arguments):
        with pytest.raises(ValueError, match=f"{call} requires a map-style dataset") as caught:
            getattr(DataLoader(dataset, 2), call)(*arguments)
        assert kind in str(caught.value)
        assert (remedy if call == "exclude" else "loader.load_state_dict(state)") in str(caught.value)
