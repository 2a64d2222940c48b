"""The process that serves: its socket, its bounds on what visitors may hold, its workers."""
