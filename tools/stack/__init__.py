"""The stack as plain processes: servers, producer and engine under one supervisor; `api.Stack` is the front door."""
