"""The standard collections of a graph, and access to the default graph's collections."""

from typing import Any, ClassVar

from mpqueue.tf1.compat.functions.declare import of_default_graph, public
from mpqueue.tf1.compat.graph import get_default_graph


class GraphKeys:
    """Names of collections."""

    GLOBAL_VARIABLES: ClassVar[str] = "variables"
    VARIABLES: ClassVar[str] = "variables"
    LOCAL_VARIABLES: ClassVar[str] = "local_variables"
    MODEL_VARIABLES: ClassVar[str] = "model_variables"
    TRAINABLE_VARIABLES: ClassVar[str] = "trainable_variables"
    SUMMARIES: ClassVar[str] = "summaries"
    QUEUE_RUNNERS: ClassVar[str] = "queue_runners"
    TABLE_INITIALIZERS: ClassVar[str] = "table_initializer"
    ASSET_FILEPATHS: ClassVar[str] = "asset_filepaths"
    MOVING_AVERAGE_VARIABLES: ClassVar[str] = "moving_average_variables"
    REGULARIZATION_LOSSES: ClassVar[str] = "regularization_losses"
    CONCATENATED_VARIABLES: ClassVar[str] = "concatenated_variables"
    SAVERS: ClassVar[str] = "savers"
    WEIGHTS: ClassVar[str] = "weights"
    BIASES: ClassVar[str] = "biases"
    ACTIVATIONS: ClassVar[str] = "activations"
    UPDATE_OPS: ClassVar[str] = "update_ops"
    LOSSES: ClassVar[str] = "losses"
    SAVEABLE_OBJECTS: ClassVar[str] = "saveable_objects"
    RESOURCES: ClassVar[str] = "resources"
    LOCAL_RESOURCES: ClassVar[str] = "local_resources"
    EVAL_STEP: ClassVar[str] = "eval_step"
    TRAIN_OP: ClassVar[str] = "train_op"
    GLOBAL_STEP: ClassVar[str] = "global_step"
    INIT_OP: ClassVar[str] = "init_op"
    LOCAL_INIT_OP: ClassVar[str] = "local_init_op"
    READY_OP: ClassVar[str] = "ready_op"
    READY_FOR_LOCAL_INIT_OP: ClassVar[str] = "ready_for_local_init_op"
    SUMMARY_OP: ClassVar[str] = "summary_op"
    COND_CONTEXT: ClassVar[str] = "cond_context"
    WHILE_CONTEXT: ClassVar[str] = "while_context"


add_to_collection = of_default_graph("add_to_collection")
add_to_collections = of_default_graph("add_to_collections")


@public("get_collection(...)")
def get_collection(key: str, scope: str | None = None) -> list[Any]:
    """Return a copy of the default graph's list called ``key``; ``scope`` selects names that start with it."""
    return get_default_graph().get_collection(key, scope)


@public("get_collection_ref(...)")
def get_collection_ref(key: str) -> list[Any]:
    """Return the default graph's list called ``key`` itself, not a copy."""
    return get_default_graph().get_collection_ref(key)
