//! PosFAR: positional fast anomaly residuals (arXiv 2306.03492, "WeakREST"). Pure maths on arrays: no files, no networks.
