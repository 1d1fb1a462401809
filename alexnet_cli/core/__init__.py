"""The library under the commands: no typer, no rich, prints nothing, reports by callback.

An import only points down: train, predict > prepare, evaluate, filters > batches, checkpoint > images, sources, store, views,
model, lrn, towers, optim, draws > recipe > errors.
"""
