"""CalcJobs, one for each runner, and the calcfunctions."""
