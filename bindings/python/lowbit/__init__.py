# SPDX-License-Identifier: MIT
"""lowbit: language models at 2 to 8 bits per weight, on a CPU.

    import lowbit
    lowbit.quantize("model", "model-int4", "int4-g128", method="rtn")
    with lowbit.load("model-int4") as model:
        print(model.generate("Once upon a time", max_tokens=40).text)

Calls release the interpreter's lock. Any of them may come from any thread; those of one Model take turns. What the
library cannot do is an Error with one sentence.
"""

from ._c import Error, Progress, Status
from ._formats import Format, Packed, format_info, formats, pack, round
from ._jobs import (
    Evaluation,
    Exported,
    Layer,
    Quantized,
    Score,
    evaluate,
    export,
    export_kinds,
    quantize,
    set_threads,
    version,
)
from ._model import Generation, Model, Stream, load

__version__ = version()

__all__ = [
    "Error", "Evaluation", "Exported", "Format", "Generation", "Layer", "Model", "Packed", "Progress", "Quantized",
    "Score", "Status", "Stream", "evaluate", "export", "export_kinds", "format_info", "formats", "load", "pack",
    "quantize", "round", "set_threads", "version",
]  # fmt: skip
