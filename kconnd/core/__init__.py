"""Every decision, without I/O and without a clock: functions of their arguments."""
