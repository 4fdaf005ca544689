"""The commands of ``mpqueue``, each in its own module with ``main(arguments) -> exit status``.

The exit status is 0 for success; 1 for a failure, or a problem that the command's help names; 2 for invalid arguments.
From the ground up; a module imports only from its own line and the lines above it::

    frame.py           the parser of a command, its printed or JSON output, extras that it needs
    factories.py       sources that are named on a command line
    loader_options.py  the options of a loader on a command line
    findings.py        the result of a check of the machine: a verdict and a remedy
    checks_system.py checks_memory.py checks_python.py checks_gpu.py   the checks of ``mpqueue doctor``
    doctor.py          ``mpqueue doctor``: checks this machine for problems that affect training
    bench_measure.py   measurements of a user's source with increasing numbers of workers and threads
    bench_advice.py    recommends a setting, and names the remaining bottleneck
    bench_report.py    formats the report
    bench_ranks.py     compares the work of ranks with and without a balance
    bench.py           ``mpqueue bench``: measures how fast a user's source can be loaded, or compares ranks
    state_read.py      finds the states of loaders in a file
    state_next.py      the samples of the batch that follows a state
    state.py           ``mpqueue state``: prints the states of loaders in a file
    serve.py           ``mpqueue serve``: runs a server in a separate process

`mpqueue.__main__` imports a command when it is called, so that no command waits for unrelated imports.
"""
