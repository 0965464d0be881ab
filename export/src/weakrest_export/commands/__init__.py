"""The commands of `weakrest-export`, one per file.

Each file has `add`, which adds the command's parser, and `run`. PyTorch takes seconds to import. Only `run`
imports it: `--help` and usage errors do not wait.
"""

import argparse
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
