"""Plans of pruning: from headers and config alone."""

import subprocess
import sys


def test_a_plan_imports_no_torch(language_model):
    code = (
        "import sys; from pathlib import Path; from widthprune.checkpoints.plans import make_plan, open_checkpoint; "
        "print(make_plan(open_checkpoint(Path(sys.argv[1])), 'PPM', bytes_free=0, pruning_pct=40)[0].size_after, "
        "'torch' in sys.modules or 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, language_model], capture_output=True, text=True)
    assert done.stdout.split() == ["53", "False"]
