def format_duration(x: float) -> str:
    return f"{x:g}s"
