"""Speed, each line against a literal restatement of the published way: python -m benchmarks"""

import pose  # noqa: F401  before torch, as in every command: it tells idle threads to sleep
