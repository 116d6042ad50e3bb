"""Where records come from: logs that can be read again."""
