"""The commands of ``mpqueue``, each in its own module with ``main(arguments) -> exit status``.

The exit status is 0 for success; 1 for a failure, or a problem that the command's help names; 2 for invalid arguments.
From the ground up; a module imports only from its own line and the lines above it::

    frame.py          the parser of a command, its printed or JSON output, extras that it needs
    factories.py      sources that are named on a command line
    loader_options.py the options of a loader on a command line
    doctor/           `mpqueue doctor`
    bench/            `mpqueue bench`
    state/            `mpqueue state`
    serve.py          ``mpqueue serve``: runs a server in a separate process

`mpqueue.__main__` imports a command when it is called, so that no command waits for unrelated imports.
"""
