"""Speed, each line against a literal restatement of the published way: python -m benchmarks"""
