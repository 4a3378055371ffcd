"""The engine: plan, cells and keys, run store, worker, executors."""
