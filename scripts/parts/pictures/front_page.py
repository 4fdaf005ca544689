"""The table of the front page: the workloads that decide a choice, and the meaning of their figures for a training."""

from typing import Any

LOADERS = {
    "mpqueue": "mpqueue",
    "torch": "PyTorch",
    "imap": "`Pool.imap`",
    "keras threads": "Keras, threads",
    "tf.data": "tf.data",
    "grain": "Grain",
    "spdl": "SPDL",
    "faster-fifo": "faster-fifo",
    "turboloader": "TurboLoader, threads",
}
OURS, TORCH = "mpqueue", "torch"
# The question of a workload, and its meaning, with ratios of its figures.
QUESTIONS = {
    "decode": (
        "JPEG files decoded, images/s",
        "One core decodes for {torch:.1f} cores of PyTorch. Good threads reach the same.",
    ),
    "tokens": (
        "rows of tokens, tokens/s",
        "No loader here limits a language model: all exceed {least:,.0f} million tokens/s.",
    ),
    "program requests": (
        "requests of 10 ms, 4 per worker at once, requests/s",
        "The server decides: the loaders differ by about {spread:.0%}.",
    ),
}
HEADER = ["", "mpqueue", "PyTorch", "the best other", "For a training"]


def lines(run: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the lines of the table, without questions that were not measured."""
    table = []
    for workload, (question, meaning) in QUESTIONS.items():
        rates = {row["name"]: row["rate"] for row in run["rows"] if row["workload"] == workload}
        others = {name: rate for name, rate in rates.items() if name in LOADERS and name not in (OURS, TORCH)}
        if not (others and {OURS, TORCH} <= rates.keys()):
            continue
        best = max(others, key=lambda name: others[name])
        shown = [rates[OURS], rates[TORCH], others[best]]
        compared = [*shown, *others.values()]
        text = meaning.format(
            torch=shown[0] / shown[1], least=min(compared) // 1e6, spread=max(compared) / min(compared) - 1
        )
        cells = [f"**{rate:,.0f}**" if rate == max(shown) else f"{rate:,.0f}" for rate in shown]
        table.append([question, *cells[:2], f"{cells[2]} ({LOADERS[best]})", text])
    return HEADER, table
