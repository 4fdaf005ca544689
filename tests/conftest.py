"""Options of the whole suite."""


def pytest_addoption(parser):
    parser.addoption("--golden", default=None, metavar="DIR", help="folder of case files (default: tests/golden)")
