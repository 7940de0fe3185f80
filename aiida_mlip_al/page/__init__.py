"""A local web page that shows runs while they go on: it reads the provenance graph and changes nothing in it."""
