"""Parts that several tests use.

A module that runs in other processes needs no framework. The modules, by name::

    alarms.py               repeated signals that reliably interrupt a blocking call, and raise where a test expects it
    batch_path.py           the path of a batch: its files and its function calls
    batch_trees.py          trees of arrays and of other values that batches may contain, and a comparison of two trees
    call_counts.py          counts of calls and instructions, which do not depend on the load
    commands.py             the command ``mpqueue`` in the test's process
    computed_source.py      sources whose items a function computes
    concurrent_calls.py     calls at the same time, each in its own thread or process
    consumer_processes.py   a consumer in a separate process that executes the commands of a test one at a time
    consumer_requests.py    messages of a consumer, in a form that tests can write and compare
    control_groups.py       the kernel's description of the control groups of this process, replaced by files of a test
    coordinator_parts.py    the parts inside coordinators and their servers, for tests that must end or address them
    coroutines.py           steps of coroutines in an event loop, in an order that does not depend on time
    costs.py                counts of tests with processes and of long tests, for bounds in ``scripts/test``
    counted_calls.py        counts of calls in a file, shared by all processes
    damaged_bytes.py        damaged bytes, for tests of decoders
    deadlock.py             a limit for waits that return at once unless a deadlock exists
    declared_hangs.py       workers that declare that they hang
    doc_pages.py            the README and the pages of the documentation, and their parts for tests
    docstrings.py           the docstrings of the public names: their sections, arguments and examples
    drawing_sources.py      sources whose samples show their index and the random numbers that they drew
    engine_parts.py         the engine inside a frontend, for tests that must pause it or know its state
    example_encoding.py     handwritten wire format of `tf.train.Example`, so that tests can encode invalid messages
    fault_table.py          the table of faults: place x kind x backend, with the expected outcome of each cell
    faults.py               named kinds of faults, and fuses that make a fault happen once
    faulty_source.py        a source and a `worker_init` that cause a fault at a chosen place
    file_formats.py         small files of each format of `mpqueue.files`
    file_parts.py           the parts inside the sources of `mpqueue.files`, for tests that damage files or look at a scan
    finalizers.py           finalizers, and whether they run Python code
    fit_datasets.py         datasets for fits
    footprint.py            the resources of a process that could leak
    fork_server_parts.py    the parts of fork servers in the trainer, for tests that disturb them
    forked_calls.py         calls in a fork of the test's process, and exits of such a process
    forked_programs.py      programs that start as forks of an interpreter with their imports loaded
    gates.py                gates that order the steps of several processes, without sleeping
    hub_parts.py            the parts inside the hub of queues, for tests that must replace them or know their state
    injected_exceptions.py  exceptions like those of signal handlers, raised at the n-th possible place in the package
    interleaving.py         deterministic interleaving with another thread, between two lines of Python code
    jax_cache.py            a shared folder for JAX's compilation cache during one run of the tests
    kept_batches.py         the last batches of a loop, which must not change while other batches pass
    keras_environment.py    programs that import Keras without its optional packages
    keras_fits.py           fits of a small model with the real Keras, and records of the batches that Keras received
    loader_runs.py          runs of a loader, for tests that need only its batches and its states
    logged_lanes.py         a source of lanes that logs each computed element
    mapped_values.py        a source that follows a number in a mapped file
    memory_groups.py        memory control groups for trainers in tests
    new_fork_servers.py     fork servers that start as forks of a prepared interpreter
    numbered_batches.py     sources of batches that are identified by number
    one_epoch.py            the batches of one epoch of a loader
    optional_packages.py    a plugin of pytest that skips a test if a package that the test imports is not installed
    other_users.py          peers of a connection that seem to belong to another user
    package_structure.py    the structure of the package and its scripts
    pipelines.py            lanes of datasets in this thread, and random pipelines
    plain_memory.py         memory with the interface of a segment, without calls to the operating system
    proxies.py              a proxy that forwards its class, as those of wrapt and of lazy objects do
    queue_processes.py      other processes for tests of queues
    quiet_trainers.py       trainers that print nothing
    range_server.py         an HTTP server on the loopback interface that serves byte ranges and injects faults
    ray_cluster.py          Ray clusters on this machine, sources that report their process, and hashes of streams
    reading_children.py     forked children that look at a batch of their parent when the test requests it
    refused_calls.py        functions that fail like calls that the system refuses
    repeated_signals.py     a signal handler that raises several times in a row
    reused_fork_servers.py  fork servers that tests reuse, as one program reuses them for several streams
    saved_states.py         loaders of each kind, whose states are saved and loaded
    script_modules.py       import of modules in ``scripts/``, for tests of these
    scripted_server.py      a server that follows the script of a test
    server_directories.py   server directories for tests
    server_processes.py     a server in a separate process, and consumers
    service_parts.py        the parts inside a server and its consumers, for tests that must pause them
    service_simulation.py   a server without sockets and processes
    signal_handlers.py      signal handlers of a test
    simulated_pool.py       a pool of simulated worker processes
    slow_sources.py         a source whose samples take a given time
    small_demo.py           ``scripts/demo`` on two small pictures
    stage_inputs.py         inputs for tests of single stages
    started_enqueuer.py     a running enqueuer of worker processes
    state_machines.py       state machines for hypothesis that aim at rare states
    sweeps.py               how much of a sweep a run tries: all of it, or a sample of it
    table_files.py          tables with columns of many types, files of these tables, and their rows as samples
    tensorflow_draws.py     a source that draws from TensorFlow, for tests and for the programs that they start
    tfrecords.py            TFRecord files and their Examples, written without mpqueue
    time_limits.py          a time limit for the hangs that pytest-timeout does not cover
    torch_batches.py        datasets of torch, and values that pass through a worker of its loader
    traced_memory.py        a bound for the memory that Python allocates
    trainer_processes.py    a trainer in a separate process, and what remains after its exit
    unpickled_batches.py    workers that raise if a part of a batch is pickled
    unread_parameters.py    parameters that the body of a public function does not read
    unusual_exceptions.py   exceptions that refuse what Python's own code does with exceptions
    unusual_generators.py   generators of Python with unusual states
    waits.py                waits for conditions without a notification
    wrapped_functions.py    functions of the package that a test replaces by ones that also call the original
"""
