"""Speed against peers, measured in the same run; `python -m benchmarks` prints the table of docs/benchmarks.md."""
