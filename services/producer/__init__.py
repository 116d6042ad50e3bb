"""The producer of the pipeline's two topics."""
