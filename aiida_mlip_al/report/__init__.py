"""What a run learned and what it cost: reads the provenance graph, writes nothing to it."""
