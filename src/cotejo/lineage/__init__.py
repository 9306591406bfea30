"""Where a result comes from: digests, tags of runs, reused stages, and the trace of a file, run or experiment."""
