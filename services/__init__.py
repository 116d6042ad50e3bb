"""The programs around the engine: producers, the pipeline, the schemas of the results stores."""
