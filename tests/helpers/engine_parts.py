"""The engine inside a frontend, for tests that must pause it or know its state. Most tests need only the frontend."""


def pipeline_of(frontend):
    """Return the pipeline of a running loader or enqueuer."""
    return frontend._session.pipeline
