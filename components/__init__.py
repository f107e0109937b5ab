"""KFP components, one per stage: kfp only, a few lines each; and what starts them as tasks."""
