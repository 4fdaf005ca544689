"""Methods of other libraries that `Dataset` does not have."""

# The equivalent here, by the name of the method.
EQUIVALENTS = {
    "prefetch": "a Loader computes batches ahead: set Loader(..., max_queue_size=10)",
    "interleave": "use flat_map, or Dataset.mix of several datasets",
    "padded_batch": "use batch(size, collate=...), or bucket, which batches elements of similar lengths",
    "unbatch": "use flat_map(lambda batch: ...), which yields the elements of the result of a function",
    "rebatch": "use flat_map and batch",
    "with_epoch": "use take(n), or Loader(..., epoch_batches=n)",
    "to_iter_dataset": "it is not needed: stages that return a stream can follow any other stage",
    "as_numpy_iterator": "iterate over the dataset itself, or over mpqueue.Loader(dataset)",
    "shard": "Loader(..., shard=(rank, number of ranks)) divides any dataset",
    "select": "use take and skip",
    "rename_column": "use rename_columns({old: new})",
    "train_test_split": "use split([0.9, 0.1], seed)",
    "map_with_index": "use enumerate, or map(function, with_id=True)",
    "from_tensor_slices": "use Dataset(source): an array is a source of its rows",
    "from_generator": "use Dataset(function): a generator function is a source",
    "sample_from_datasets": "use Dataset.mix",
}
