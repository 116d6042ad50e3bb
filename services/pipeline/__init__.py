"""The engine service: the jobs and the place where they meet their settings."""
