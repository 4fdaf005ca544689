"""The option ``balance`` of torch's loader: all ranks have equal work, with the samples of torch's own order."""

import json

import numpy as np
import pytest
import torch
from helpers.torch_batches import Noisy, Numbers, Stream, lists
from torch.utils import data
from torch.utils.data import DistributedSampler

import mpqueue.torch
from mpqueue.frameworks.torch.order import balance as balancing
from mpqueue.plan.order import balanced

COSTS = np.random.default_rng(3).integers(1, 100, 96)


class Indices(Numbers):
    """Its samples are their indices."""

    def __init__(self, length=96):
        super().__init__(length)


def ranks(world, balance, dataset=None, batch_size=4, of_sampler=(), kind=DistributedSampler, **options):
    """Return the loader of each rank; without a process group, the samplers receive their ranks."""
    dataset = Indices() if dataset is None else dataset
    samplers = [kind(dataset, world, rank, **dict(of_sampler)) for rank in range(world)]
    return [
        mpqueue.torch.DataLoader(dataset, batch_size, sampler=sampler, balance=balance, **options)
        for sampler in samplers
    ]


def epochs(loaders, epoch):
    for loader in loaders:
        loader.sampler.set_epoch(epoch)
    return [lists(loader) for loader in loaders]


def flat(*lists_of_batches):
    return [index for batches in lists_of_batches for batch in batches for index in batch]


def loads(batches, accumulate=1, costs=COSTS):
    """Return the cost of each step of each rank, as an array (rank, step)."""
    sums = np.array([[sum(costs[index] for index in batch) for batch in of_rank] for of_rank in batches])
    return np.add.reduceat(sums, range(0, sums.shape[1], accumulate), axis=1)


def inequality(steps):
    return float((steps.max(0) / steps.mean(0)).mean())


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("options", [{}, {"steps": 3}, {"accumulate": 2}, {"group": 3}, {"accumulate": 2, "group": 2}])
@pytest.mark.parametrize("length", [96, 88, 91])
def test_ranks_divide_all_samples_of_an_epoch_equally(world, options, length):
    costs = COSTS[:length]
    loaders = ranks(world, mpqueue.Balance(costs, **options), Indices(length))
    plain = epochs(ranks(world, None, Indices(length)), 0)
    first = epochs(loaders, 0)
    assert sorted(flat(*first)) == sorted(flat(*plain))
    assert [[len(batch) for batch in of_rank] for of_rank in first] == [
        [len(batch) for batch in of_rank] for of_rank in plain
    ]
    assert {len(loader) for loader in loaders} == {len(of_rank) for of_rank in first}
    accumulate = options.get("accumulate", 1)
    if world > 1:
        before, after = (inequality(loads(each, accumulate)) for each in (plain, first))
        assert after < 1 + (before - 1) / 2
    assert epochs(loaders, 1) != first
    assert epochs(loaders, 0) == first


@pytest.mark.parametrize("options", [{}, {"num_workers": 1}, {"num_workers": 2, "persistent_workers": True}])
@pytest.mark.parametrize("stateful", [False, True])
def test_ranks_resume_within_a_pass(options, stateful):
    balance, kind = mpqueue.Balance(COSTS[:91], steps=2, accumulate=2), DistributedSampler
    if stateful:
        kind = pytest.importorskip("torchdata.stateful_dataloader.sampler").StatefulDistributedSampler

    def made():
        return ranks(2, balance, Indices(91), kind=kind, **options)

    whole = epochs(made(), 3)
    assert whole == epochs(ranks(2, balance, Indices(91)), 3)
    for rank, (loader, resumed) in enumerate(zip(made(), made(), strict=True)):
        loader.sampler.set_epoch(3)
        batches = iter(loader)
        first = [next(batches).tolist() for _ in range(5)]
        saved = json.loads(json.dumps(loader.state_dict()))
        assert saved["balance"][-1] == "ranks=2"
        resumed.load_state_dict(saved)
        resumed.sampler.set_epoch(3)
        assert first + lists(resumed) == whole[rank]
        resumed.sampler.set_epoch(4)
        assert lists(resumed) == epochs(made(), 4)[rank]


@pytest.mark.parametrize("other", [{"steps": 2}, {"accumulate": 2}, {"group": 2}, None])
def test_a_state_within_a_pass_fits_only_the_same_balance_and_ranks(other):
    (loader, _) = ranks(2, mpqueue.Balance(COSTS))
    next(iter(loader))
    saved = loader.state_dict()
    (changed, _) = ranks(2, None if other is None else mpqueue.Balance(COSTS, **other))
    with pytest.raises(ValueError, match=r"saved with balance \['ranks=2'\], and this loader has"):
        changed.load_state_dict(saved)
    with pytest.raises(ValueError, match=r"has \['ranks=4'\]"):
        ranks(4, mpqueue.Balance(COSTS))[0].load_state_dict(saved)
    lists(loader)
    changed.load_state_dict(loader.state_dict())  # at the end of a pass, the next one may have any order
    assert len(lists(changed)) == len(changed)


def test_other_costs_than_those_of_the_state_are_detected():
    loader, _ = ranks(2, mpqueue.Balance(COSTS))
    next(iter(loader))
    changed, _ = ranks(2, mpqueue.Balance(COSTS[::-1]))
    changed.load_state_dict(loader.state_dict())
    with pytest.raises(ValueError, match="DistributedSampler of this loader returned other indices"):
        lists(changed)


def numbers_of(loaders, epoch, exclude=()):
    """Return (batch, info) for each batch of each rank, in lockstep."""
    for loader in loaders:
        loader.sampler.set_epoch(epoch)
        loader.exclude(exclude)
    return [
        [(batch.tolist(), loader.last) for batch, loader in zip(batches, loaders, strict=True)]
        for batches in zip(*loaders, strict=True)
    ]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world", [1, 2])
def test_last_has_the_costs_of_the_batch_and_of_its_step(workers, world):
    balance = mpqueue.Balance(COSTS[:91], tokens=lambda index: index + 1, accumulate=2, steps=2)
    loaders = ranks(world, balance, Indices(91), num_workers=workers)
    excluded = {*range(0, 91, 5)}
    rounds = numbers_of(loaders, 1, excluded)
    assert not {index for each in rounds for batch, _ in each for index in batch} & excluded
    for start in range(0, len(rounds), 2):
        step = [pair for each in rounds[start : start + 2] for pair in each]
        whole = [index for batch, _ in step for index in batch]
        for batch, info in step:
            assert list(info.samples) == batch
            assert (info.cost, info.step_cost) == (COSTS[batch].sum(), COSTS[whole].sum())
            assert (info.tokens, info.step_tokens) == (sum(batch) + len(batch), sum(whole) + len(whole))
    for rank, loader in enumerate(loaders):
        for number in range(len(rounds)):
            told, last = loader.explain(0, number), rounds[number][rank][1]
            assert (told.samples, told.cost) == (last.samples, last.cost)
            assert (told.step_cost, told.step_tokens) == (last.step_cost, last.step_tokens)
            assert loader.compute(0, number).tolist() == list(last.samples)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_that_exclusions_empty_is_filled_and_counts_with_its_filling(workers):
    plain = epochs(ranks(2, mpqueue.Balance(COSTS)), 0)
    loaders = ranks(2, mpqueue.Balance(COSTS), num_workers=workers)
    rounds = numbers_of(loaders, 0, [*plain[0][4], *plain[1][0]])
    (filled, info), (_, other) = rounds[4]
    assert filled == plain[0][0]
    assert info.cost == COSTS[filled].sum()
    assert {info.step_cost, other.step_cost} == {COSTS[plain[0][0]].sum() + COSTS[plain[1][4]].sum()}
    assert rounds[0][1][0] == plain[1][1]
    assert rounds[0][0][1].step_cost == COSTS[plain[0][0]].sum() + COSTS[plain[1][1]].sum()


def test_samples_excluded_within_a_pass_count_until_then():
    loader, _ = ranks(2, mpqueue.Balance(COSTS, accumulate=2))
    batches = iter(loader)
    first = next(batches).tolist()
    before = loader.last
    second = loader.explain(0, 1).samples
    loader.exclude([first[0], second[0]])
    assert loader.last == before.__class__(**{**_fields(before), "step_cost": before.step_cost - COSTS[second[0]]})
    assert next(batches).tolist() == list(second[1:])
    assert loader.last.cost == COSTS[list(second[1:])].sum()


def _fields(info):
    return {name: getattr(info, name) for name in info._values()}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("shuffle", [False, True])
def test_any_sampler_of_one_rank_is_divided(workers, shuffle):
    """Batches of similar costs, or equal micro-batches; the trainer's generator is used as without a balance."""

    def drawn(balance):
        torch.manual_seed(7)
        loader = mpqueue.torch.DataLoader(Noisy(50), 4, shuffle=shuffle, balance=balance, num_workers=workers)
        found = [[indices.tolist() for indices, _ in loader] for _ in range(2)]
        return found, torch.rand(2).tolist() if workers else None, loader

    costs = COSTS[:50]
    plain, numbers, _ = drawn(None)
    grouped, same, loader = drawn(mpqueue.Balance(costs, group=6))
    assert same == numbers
    assert grouped != plain
    assert (grouped[0] == grouped[1]) is not shuffle
    for before, after in zip(plain, grouped, strict=True):
        assert after[-1] == before[-1] and len(after[-1]) == 2
        for window in slice(0, 6), slice(6, 12):
            assert sorted(flat(after[window])) == sorted(flat(before[window]))
            spread = [np.ptp([costs[batch] for batch in each[window]], 1).mean() for each in (before, after)]
            assert spread[1] < spread[0] / 2
    assert loader.last.step_cost == loader.last.cost == costs[grouped[1][-1]].sum()


def test_the_last_batch_is_dropped():
    for world in (1, 2):
        loaders = ranks(world, mpqueue.Balance(COSTS[:91], steps=3), Indices(91), drop_last=True)
        assert {len(batch) for of_rank in epochs(loaders, 0) for batch in of_rank} == {4}
        assert {len(loader) for loader in loaders} == {len(lists(loader)) for loader in loaders}
    (loader,) = ranks(1, mpqueue.Balance(COSTS[:2]), Indices(2), drop_last=True)
    assert lists(loader) == []


def test_ranks_drop_the_samples_that_their_samplers_drop():
    loaders = ranks(4, mpqueue.Balance(COSTS[:91]), Indices(91), of_sampler={"drop_last": True, "seed": 8})
    plain = ranks(4, None, Indices(91), of_sampler={"drop_last": True, "seed": 8})
    mine, other = (sorted(flat(*epochs(each, 1))) for each in (loaders, plain))
    assert mine == other and len(mine) == 88


def test_statistics_have_the_inequality_before_and_after():
    loaders = ranks(4, mpqueue.Balance(COSTS, accumulate=2))
    assert loaders[0].statistics().balance is None
    mine = epochs(loaders, 0)
    before, after = loaders[2].statistics().balance
    assert after == pytest.approx(inequality(loads(mine, 2)))
    assert before == pytest.approx(inequality(loads(epochs(ranks(4, None), 0), 2)))
    assert ranks(2, None)[0].statistics().balance is None


def test_questions_about_batches_behind_the_sampler_do_not_change_the_statistics(monkeypatch):
    """The sampler is 16 windows ahead, and the last 10 of them are kept."""
    monkeypatch.setattr(balanced, "_AHEAD", 32)

    def counted(*, asks):
        balance, options = mpqueue.Balance(np.tile(COSTS, 4)), {"num_workers": 2, "prefetch_factor": 8}
        loader, _ = ranks(2, balance, Indices(384), batch_size=2, **options)
        costs = [loader.last.cost for _ in loader if asks]
        assert len(costs) == (96 if asks else 0)
        return loader.statistics().balance

    assert counted(asks=True) == counted(asks=False)


def test_costs_may_be_a_column_or_a_function():
    class Table(Indices):
        def column(self, name):
            return {"length": COSTS.tolist(), "bad": [1.0, -1.0] * 48}[name]

    expected = epochs(ranks(2, mpqueue.Balance(COSTS)), 0)
    assert epochs(ranks(2, mpqueue.Balance("length"), Table()), 0) == expected
    assert epochs(ranks(2, mpqueue.Balance(lambda index: int(COSTS[index]))), 0) == expected
    with pytest.raises(ValueError, match="the cost of sample 1 must be a finite number"):
        ranks(2, mpqueue.Balance("bad"), Table())
    with pytest.raises(ValueError, match="Indices has no columns"):
        ranks(2, mpqueue.Balance("length"))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_invalid_cost_is_raised_with_its_sample(workers):
    (loader, _) = ranks(2, mpqueue.Balance(lambda index: -1 if index == 17 else 1), num_workers=workers)
    with pytest.raises(ValueError, match="the cost of sample 17 must be a finite number of 0 or more"):
        lists(loader)


class Reversed(DistributedSampler):
    def __iter__(self):
        return reversed(list(super().__iter__()))


class OfOneRank(data.SequentialSampler):
    num_replicas = 2


class Counted(data.Sampler):
    def __init__(self, keys, length):
        self.keys, self.length = keys, length

    def __iter__(self):
        return iter(self.keys)

    def __len__(self):
        return self.length


@pytest.mark.parametrize(
    ("dataset", "options", "match"),
    [
        (Stream(range(4)), {}, "needs a map-style dataset, got the iterable-style Stream"),
        (mpqueue.Dataset.range(9).shuffle(3), {}, "got the iterable-style StreamDataset"),
        (Indices(), {"batch_size": None}, "got batch_size=None: pass batch_size"),
        (Indices(), {"batch_sampler": [[1, 2]]}, r"the batch_sampler \(list\) returns the order of one rank: pass "),
        (Indices(), {"sampler": Reversed(Indices(), 2, 0)}, "Reversed defines its own __iter__"),
        (Indices(), {"sampler": OfOneRank(Indices())}, "OfOneRank returns the order of one rank: pass sampler=torch"),
        (Indices(), {"sampler": iter([1])}, "list_iterator has no length: define __len__"),
    ],
)
def test_loaders_that_cannot_be_balanced_raise(dataset, options, match):
    with pytest.raises(ValueError, match=match):
        mpqueue.torch.DataLoader(dataset, balance=mpqueue.Balance(lambda _: 1), **options)


def test_other_arguments_that_balance_excludes_raise():
    with pytest.raises(ValueError, match="one number for each of the 91"):
        ranks(2, mpqueue.Balance(COSTS), Indices(91))
    with pytest.raises(TypeError, match=r"balance must be a mpqueue.Balance, such as"):
        ranks(2, COSTS)
    if "in_order" in data.DataLoader.__init__.__annotations__:
        with pytest.raises(ValueError, match="balance needs in_order=True"):
            ranks(2, mpqueue.Balance(COSTS), in_order=False)


def test_samplers_that_break_their_length_or_return_other_keys_raise():
    def first(*given):
        next(iter(mpqueue.torch.DataLoader(Indices(), 2, sampler=Counted(*given), balance=mpqueue.Balance(COSTS))))

    with pytest.raises(ValueError, match=r"Counted.*more than the 2 indices of its length"):
        first(range(9), 2)
    with pytest.raises(TypeError, match=r"returned other keys, such as 'a': return integers"):
        first(["a"], 1)
    with pytest.raises(IndexError, match="but none for sample 200"):
        first([200], 1)


def test_several_ranks_need_a_distributed_sampler(monkeypatch):
    loader = mpqueue.torch.DataLoader(Indices(), 4, shuffle=True, balance=mpqueue.Balance(COSTS))
    monkeypatch.setattr(balancing, "rank_and_world", lambda: (0, 2))
    words = r"RandomSampler returns the order of one rank: pass sampler=torch.utils.data.Distr"
    with pytest.raises(ValueError, match=words):
        mpqueue.torch.DataLoader(Indices(), 4, shuffle=True, balance=mpqueue.Balance(COSTS))
    # As in a program that begins the process group late, or when Accelerate shares the batches.
    with pytest.raises(ValueError, match="RandomSampler returns the order of one rank"):
        lists(loader)
    assert len(lists(ranks(2, mpqueue.Balance(COSTS))[0])) == 12


def test_accelerate_keeps_the_division_of_one_rank():
    accelerate = pytest.importorskip("accelerate.data_loader")
    loader = mpqueue.torch.DataLoader(Indices(), 4, balance=mpqueue.Balance(COSTS, group=4))
    prepared = accelerate.prepare_data_loader(loader, num_processes=1, process_index=0, put_on_device=False)
    assert lists(prepared) == lists(loader)
    assert lists(prepared) != lists(mpqueue.torch.DataLoader(Indices(), 4))


def test_lightning_gives_the_loader_another_sampler():
    utilities = pytest.importorskip("lightning_fabric.utilities.data")
    loader = mpqueue.torch.DataLoader(Indices(), 4, shuffle=True, balance=mpqueue.Balance(COSTS))
    replaced = [utilities._update_dataloader(loader, DistributedSampler(Indices(), 2, rank)) for rank in range(2)]
    assert list(map(lists, replaced)) == epochs(ranks(2, mpqueue.Balance(COSTS)), 0)
    assert replaced[0].last.step_cost
    with (
        utilities._replace_dunder_methods(data.DataLoader, "dataset"),
        utilities._replace_dunder_methods(data.BatchSampler),
    ):
        loader = mpqueue.torch.DataLoader(Indices(), 4, shuffle=True, balance=mpqueue.Balance(COSTS))
    assert lists(utilities._update_dataloader(loader, DistributedSampler(Indices(), 2, 1))) == lists(replaced[1])


def test_gradients_of_several_ranks_equal_those_of_one():
    """The loss is a mean over the tokens of a step; `BatchInfo.step_tokens` has their number."""
    tokens = np.random.default_rng(1).integers(1, 20, 96)
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(int(count), 5, generator=generator, dtype=torch.float64) for count in tokens]
    targets = [torch.randn(int(count), generator=generator, dtype=torch.float64) for count in tokens]

    def gradients(world, batch_size, **options):
        """Return the gradient of each step, summed over the ranks."""
        balance = mpqueue.Balance(tokens, tokens=tokens, **options)
        loaders = ranks(world, balance, batch_size=batch_size, of_sampler={"shuffle": False})
        model = torch.nn.Linear(5, 1, dtype=torch.float64)
        torch.nn.init.constant_(model.weight, 0.1)
        torch.nn.init.constant_(model.bias, 0.2)
        found = []
        for number, round_ in enumerate(zip(*loaders, strict=True)):
            if number % options.get("accumulate", 1) == 0:
                model.zero_grad()
            for batch, loader in zip(round_, loaders, strict=True):
                rows = torch.cat([inputs[index] for index in batch])
                wanted = torch.cat([targets[index] for index in batch])
                loss = ((model(rows)[:, 0] - wanted) ** 2).sum() / loader.last.step_tokens
                loss.backward()
            if (number + 1) % options.get("accumulate", 1) == 0:
                found.append(torch.cat([model.weight.grad[0], model.bias.grad]).clone())
        return torch.stack(found)

    alone = gradients(1, 16)
    assert torch.allclose(gradients(4, 4), alone, rtol=0, atol=1e-6)
    assert torch.allclose(gradients(4, 2, accumulate=2), alone, rtol=0, atol=1e-6)


# -- Steps of micro-batches of a limited cost


def stepped(world, **options):
    options = {"batch_size": 24, "of_sampler": {"seed": 1}} | options
    return ranks(world, mpqueue.Balance(COSTS, tokens=COSTS, max_cost=300), **options)


def steps_of(loader):
    return [lists(step) for step in loader]


class Batches(Indices):
    def __getitems__(self, indices):
        return [self[index] for index in indices]


class Awaited(Indices):
    async def __getitem__(self, index):
        return index


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", [Indices, Batches, Awaited])
def test_steps_are_lists_of_micro_batches_that_fit(world, num_workers, kind):
    loaders = stepped(world, num_workers=num_workers, dataset=kind())
    assert {len(loader) for loader in loaders} == {4}
    found = [[(lists(step), loader.last) for step in loader] for loader in loaders]
    assert sorted(flat(*(step for of_rank in found for step, _ in of_rank))) == list(range(96))
    for index, of_ranks in enumerate(zip(*found, strict=True)):
        assert len({len(step) for step, _ in of_ranks}) == len({last.step_cost for _, last in of_ranks}) == 1
        for rank, (step, last) in enumerate(of_ranks):
            assert all(batch and COSTS[batch].sum() <= 300 for batch in step)
            assert list(last.samples) == flat(step)
            assert (last.batch, last.cost, last.tokens) == (index, COSTS[flat(step)].sum(), COSTS[flat(step)].sum())
            assert last.step_cost == sum(each.cost for _, each in of_ranks)
            loader = loaders[rank]
            assert lists(loader.compute(0, index)) == step
            assert list(loader.explain(0, index).samples) == flat(step)
    before, after = loaders[0].statistics().balance
    assert after <= before


@pytest.mark.parametrize("num_workers", [0, 2])
def test_steps_resume_exactly(num_workers):
    whole = [steps_of(loader) for loader in stepped(2)]
    for rank, (loader, resumed) in enumerate(zip(stepped(2), stepped(2, num_workers=num_workers), strict=True)):
        batches = iter(loader)
        first = [lists(next(batches)) for _ in range(2)]
        resumed.load_state_dict(json.loads(json.dumps(loader.state_dict())))
        assert first + steps_of(resumed) == whole[rank]


def test_random_numbers_in_steps_do_not_depend_on_the_workers():
    def numbers(num_workers):
        torch.manual_seed(1)
        (loader,) = stepped(1, dataset=Noisy(96), num_workers=num_workers)
        return [torch.cat([torch.stack(batch) for batch in step], 1).tolist() for step in loader]

    assert numbers(1) == numbers(3)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_steps_that_do_not_fit_raise_the_same_error_on_all_ranks(num_workers):
    balance = mpqueue.Balance(np.where(np.arange(96) == 7, 1000, COSTS), max_cost=300)
    for loader in ranks(2, balance, batch_size=24, num_workers=num_workers):
        with pytest.raises(ValueError, match="sample 7 costs 1000, and a micro-batch at most max_cost=300"):
            steps_of(loader)
    balance = mpqueue.Balance([100, 100, 100, 100, 1] * 4, max_cost=100)
    options = {"of_sampler": {"shuffle": False}, "num_workers": num_workers}
    for loader in ranks(4, balance, Indices(20), batch_size=5, **options):
        with pytest.raises(ValueError, match=r"a step has 5 samples, .* needs 2 micro-batches"):
            steps_of(loader)
    with pytest.raises(ValueError, match="batch_size=2 is fewer samples than the 4 ranks"):
        stepped(4, batch_size=2)
    short = Batches()
    short.__class__ = type("Short", (Batches,), {"__getitems__": lambda _, indices: indices[1:]})
    with pytest.raises(ValueError, match="24 samples in micro-batches, and __getitems__ of Short returned 23"):
        steps_of(stepped(1, dataset=short)[0])


def test_exclusions_and_loaders_of_other_libraries_refuse_steps():
    (loader,) = stepped(1)
    with pytest.raises(ValueError, match=r"a mpqueue.Loader, or a DataLoader with a .*Subset"):
        loader.exclude([3])
    for dataset in (loader.dataset, Batches()):
        other = data.DataLoader(dataset, batch_sampler=loader.batch_sampler)
        with pytest.raises(TypeError, match=r"only a mpqueue.torch.DataLoader returns.*Balance\(accumulate=n\)"):
            next(iter(other))


def test_steps_are_prefetched():
    costs = np.arange(1, 25)
    balance = mpqueue.Balance(costs, max_cost=60)
    with mpqueue.Loader(costs, batch_size=8, workers=1, seed=1, shard=(0, 2), balance=balance) as loader:
        expected = [[batch.tolist() for batch in step] for step in loader]
    assert {len(step) for step in expected} > {1}
    with mpqueue.Loader(costs, batch_size=8, workers=1, seed=1, shard=(0, 2), balance=balance) as loader:
        found = []
        for step in mpqueue.torch.prefetch(loader, "cpu"):
            found.append([batch.tolist() for batch in step])
            assert loader.last.batch == len(found) - 1
            assert loader.state_dict()["position"] == len(found) % len(loader)
    assert found == expected
    (loader,) = stepped(1, num_workers=1)
    assert [lists(step) for step in mpqueue.torch.prefetch(loader, "cpu")] == steps_of(stepped(1)[0])
