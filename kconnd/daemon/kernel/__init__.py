"""The supervision of one kernel: the actor, the process and the state that is observed."""
