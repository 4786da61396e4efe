"""All decisions: functions of their arguments, without I/O and without a clock."""
