"""The commands of ``mpqueue``, each in a file of its own with ``main(arguments) -> exit status``.

The exit status is 0; 1 where a command has found something that its help names, or has failed; 2 where the command line
is wrong. From the ground up; a module imports only from its own line and the lines above it::

    frame.py           the parser of a command, its output as text or JSON, extras that it needs
    factories.py       sources that are named on a command line
    findings.py        what a check of the machine has found: a verdict and a remedy
    checks_system.py checks_memory.py checks_python.py checks_gpu.py   the checks of ``mpqueue doctor``
    doctor.py          ``mpqueue doctor``: looks for what would hold up training on this machine
    bench_measure.py   measurements of a user's source
    bench_search.py    the number of workers and threads beyond which nothing is gained
    bench_advice.py    what to change, and by how much it would help
    bench_report.py    that as text
    bench_run.py       the measurements, one after the other
    bench.py           ``mpqueue bench``: how fast a user's source can be loaded
    top_rows.py        what the processes of this user have answered, as rows
    top_table.py       these as a table, as wide as the terminal
    top.py             ``mpqueue top``: a live table
    trace_read.py      a trace file, read
    trace_summary.py   the times of its rows and spans
    trace.py           ``mpqueue trace``: what a trace tells
    index.py           ``mpqueue index``: the indexes of files, made ahead
    serve.py           ``mpqueue serve``: a server in a process of its own

`mpqueue.__main__` imports a command when it is called, so that none waits for what another one needs.
"""
