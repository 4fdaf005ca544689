"""The engine inside a frontend, for tests that must pause it or know its state. Most tests need only the frontend."""


def session_of(frontend):
    """Return the session of a loader, an enqueuer or the stream of a server: it starts and stops pipelines."""
    return frontend._session


def pipeline_of(frontend):
    """Return the pipeline of a running loader, enqueuer or stream of a server."""
    return session_of(frontend).pipeline


def pipeline_of_torch(loader):
    """Return the pipeline of a running loader of torch."""
    return loader._iterator.loader_workers.pipeline


def begin_pass(enqueuer):
    """Begin the next pass of an enqueuer for Keras before the current one has ended."""
    enqueuer._begin()


def work_items_of(frontend):
    """Return the batches that are computed, or being computed, and not returned, by number."""
    return pipeline_of(frontend).ledger.work_items


def sampler_of(loader):
    """Return the sampler that a loader draws from."""
    return loader._run.plan.options.sampler


def waiting_in(pipeline):
    """Return the threads that wait for a batch of a pipeline, in order."""
    return pipeline.backend._consumers.heads


def loading_in(sync):
    """Return the slots of states that workers are loading."""
    return [slot for slot, _ in sync._loading.values()]


def skip_of(cursor):
    """Return the batches that the cursor of a stream skips."""
    return cursor._skip


def lock_of(owner):
    """Return the lock of an object that several threads use."""
    return owner._lock
