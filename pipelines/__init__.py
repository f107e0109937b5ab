"""KFP pipelines, one per method: compile, submit, local run. Imports kfp only."""
