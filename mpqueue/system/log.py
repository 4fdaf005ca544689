"""The logger of this package."""


def warn(text: str) -> None:
    """Log a WARNING in the logger ``mpqueue``."""
    import logging  # most programs have it; the others need it when something happens, and not before

    logging.getLogger("mpqueue").warning("%s", text)
