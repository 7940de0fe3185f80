"""Programs that run inside a job, copied into its folder; they never import AiiDA or this package."""
