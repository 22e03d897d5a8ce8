"""The state of the pipeline: offsets, lag, rates, groups and open dead letters, read without joining a group."""
