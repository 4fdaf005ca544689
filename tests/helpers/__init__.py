"""Parts that several tests use.

A module that runs in other processes needs no framework. The modules, by name::

    aiming.py              state machines for hypothesis that aim at rare states
    alarms.py              repeated signals that reliably interrupt a blocking call, and raise where a test expects it
    bending.py             damaged bytes, for tests of decoders
    bounds.py              a time limit for the hangs that pytest-timeout does not cover
    commands.py            the command ``mpqueue`` in the test's process
    compiled.py            a shared folder for JAX's compilation cache during one run of the tests
    computed.py            a source whose items a function computes
    control_groups.py      the kernel's description of the control groups of this process, replaced by files of a test
    costs.py               counts of what the tests of a run cost, for bounds in ``scripts/test``
    counting.py            counts of calls and instructions, which do not depend on the load
    deadlock.py            a limit for waits that return at once unless a deadlock exists
    docstrings.py          the docstrings of the public names: their sections, arguments and examples
    drawing.py             sources whose samples show their index and the random numbers that they drew
    encoding.py            handwritten wire format of `tf.train.Example`, so that tests can encode invalid messages
    faults.py              named kinds of faults, and fuses that make a fault happen once
    file_formats.py        small files of each format of `mpqueue.files`
    finalizers.py          finalizers, and whether they run Python code
    fitting.py             fits of a small model with the real Keras, and records of the batches that Keras received
    footprint.py           the resources of a process that could leak
    forked.py              programs that start as forks of an interpreter with their imports loaded
    forking.py             calls in a fork of the test's process
    gates.py               gates that order the steps of several processes, without sleeping
    groups.py              memory control groups for trainers in tests
    handling.py            signal handlers of a test
    hanging.py             workers that declare that they hang
    hooks.py               a source and a `worker_init` that cause a fault at a chosen place
    in_slot.py             workers that raise if a part of a batch is pickled
    in_threads.py          calls at the same time, each in its own thread
    inside.py              the engine inside a frontend, for tests that must pause it or know its state
    lane_inputs.py         inputs for tests of single stages
    laned.py               a source of lanes that logs each computed element
    lean.py                programs that import Keras without its optional packages
    marked.py              datasets for fits
    meanwhile.py           deterministic interleaving with another thread, between two lines of Python code
    misbehaving.py         exceptions that refuse what Python's own code does with exceptions
    new_fork_servers.py    fork servers that start as forks of a prepared interpreter
    numbered.py            sources of batches that are identified by number
    on_cluster.py          Ray clusters on this machine, sources that report their process, and hashes of streams
    optional.py            a plugin of pytest that skips a test if a package that the test imports is not installed
    others.py              other processes for tests of queues
    outside.py             a trainer in a separate process, and what remains after its exit
    pages.py               the README and the pages of the documentation, and their parts for tests
    parked.py              fork servers that tests reuse, as one program reuses them for several streams
    pipelines.py           lanes of datasets in this thread, and random pipelines
    proxies.py             a proxy that forwards its class, as those of wrapt and of lazy objects do
    puppets.py             a consumer in a separate process that executes the commands of a test one at a time
    range_server.py        an HTTP server on the loopback interface that serves byte ranges and injects faults
    reading_children.py    forked children that look at a batch of their parent when the test requests it
    repeated_signals.py    a signal handler that raises several times in a row
    requests.py            messages of a consumer, in a form that tests can write and compare
    saved_states.py        loaders of each kind, whose states are saved and loaded
    scripted_server.py     a server that follows the script of a test
    scripts.py             import of modules in ``scripts/``, for tests of these
    segments.py            memory with the interface of a segment, without calls to the operating system
    served_streams.py      a stream with buffers and random numbers, for tests of servers
    server_directories.py  server directories for tests
    service_simulation.py  a server without sockets and processes
    serving.py             a server in a separate process, and consumers
    simulated.py           a pool of simulated worker processes
    small_demo.py          ``scripts/demo`` on two small pictures
    started.py             a running enqueuer of worker processes
    strikes.py             exceptions like those of signal handlers, raised at the n-th possible place in the package
    structure.py           the structure of the package and its scripts
    sweeps.py              how much of a sweep a run tries: all of it, or a sample of it
    table.py               the table of faults: place x kind x backend, with the expected outcome of each cell
    tabular.py             tables with columns of many types, files of these tables, and their rows as samples
    tensorflow_draws.py    a source that draws from TensorFlow, for tests and for the programs that they start
    terminals.py           a command on a pseudo-terminal, and the screen that its user sees
    tfrecords.py           TFRecord files and their Examples, written without mpqueue
    torch_batches.py       datasets of torch, and values that pass through a worker of its loader
    trees.py               trees of arrays and of other values that batches may contain, and a comparison of two trees
    trips.py               the path of a batch: its files and its function calls
    unread.py              parameters that the body of a public function does not read
    waits.py               waits for conditions without a notification
"""
